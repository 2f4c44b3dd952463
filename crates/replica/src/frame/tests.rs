use super::*;

#[test]
fn report_and_header_are_the_documented_bytes() {
    assert_eq!(encode_report(4096), [0, 0, 0, 0, 0, 0, 0x10, 0]);
    let header = TransferHeader { offset: 4096, body_len: 3 };
    assert_eq!(header.encode(), [0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 3]);
    assert_eq!(TransferHeader::decode(header.encode()), header);
    assert_eq!(TransferHeader::heartbeat(4099).encode(), [0, 0, 0, 0, 0, 0, 0x10, 3, 0, 0, 0, 0]);
}

#[test]
fn signs_survive() {
    let header = TransferHeader { offset: i64::MIN, body_len: -1 };
    assert_eq!(TransferHeader::decode(header.encode()), header);
}

#[test]
fn reports_are_the_same_over_every_fragmentation() {
    let offsets = [0, 1, -1, i64::MAX, 4096];
    let stream: Vec<u8> = offsets.iter().flat_map(|offset| encode_report(*offset)).collect();
    for cut in 1..=stream.len() {
        let mut reader = ReportReader::new();
        let mut seen = Vec::new();
        for mut piece in stream.chunks(cut) {
            while let Some(offset) = reader.next(&mut piece) {
                seen.push(offset);
            }
            assert!(piece.is_empty());
        }
        assert_eq!(seen, offsets, "pieces of {cut}");
    }
}

#[test]
fn a_partial_report_is_no_report() {
    let mut reader = ReportReader::default();
    assert_eq!(reader.next(&mut &[0u8; 7][..]), None);
    assert_eq!(reader.next(&mut &[][..]), None);
    assert_eq!(reader.next(&mut &[9u8][..]), Some(9));
}
