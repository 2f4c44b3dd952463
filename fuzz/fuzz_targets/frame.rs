//! Bytes at a listener: split, decoded, and what was decoded encodes to something that decodes to the same.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use wire::frame;

fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(whole)) = frame::split_frame(&mut buffer, frame::MAX_FRAME) {
        let Ok(command) = frame::decode(whole) else { continue };
        let mut out = BytesMut::new();
        frame::encode(&command, &mut out);
        let again = frame::split_frame(&mut out, usize::MAX).expect("our own length").expect("our own whole frame");
        let again = frame::decode(again).expect("our own frame");
        // A binary header has no room for wide codes and long keys; JSON has.
        if command.serialize == wire::SerializeType::Json {
            assert_eq!(again.code, command.code);
            assert_eq!(again.opaque, command.opaque);
            assert_eq!(again.body, command.body);
        }
        let _ = wire::header::SendRequest::of(&command);
    }
});
