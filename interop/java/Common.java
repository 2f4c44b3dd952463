import java.io.BufferedWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.zip.CRC32;

/** What every program here needs: options, one JSON object a line, checksums. Only the JDK. */
final class Common {
    private Common() {
    }

    /** Reads "--name value" pairs. */
    static Map<String, String> options(String[] args) {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < args.length && args[i].startsWith("--"); i += 2) {
            options.put(args[i].substring(2), args[i + 1]);
        }
        return options;
    }

    static void say(String format, Object... args) {
        System.out.printf(format + "%n", args);
        System.out.flush();
    }

    static long crc(byte[] bytes) {
        CRC32 crc = new CRC32();
        if (bytes != null) crc.update(bytes);
        return crc.getValue();
    }

    /** A file of JSON objects, one a line, complete up to the last line at any time. */
    static final class Lines implements AutoCloseable {
        private final BufferedWriter out;

        Lines(String path) throws IOException {
            out = Files.newBufferedWriter(Path.of(path));
        }

        /** write("key", value, "key", value ...) */
        synchronized void write(Object... pairs) {
            StringBuilder line = new StringBuilder("{");
            for (int i = 0; i + 1 < pairs.length; i += 2) {
                if (i > 0) line.append(',');
                quote(line, (String) pairs[i]).append(':');
                Object value = pairs[i + 1];
                if (value == null || value instanceof Number || value instanceof Boolean) line.append(value);
                else quote(line, value.toString());
            }
            try {
                out.write(line.append("}\n").toString());
                out.flush();
            } catch (IOException e) {
                throw new IllegalStateException(e);
            }
        }

        private static StringBuilder quote(StringBuilder to, String s) {
            to.append('"');
            for (char c : s.toCharArray()) {
                if (c == '"' || c == '\\') to.append('\\').append(c);
                else if (c < ' ') to.append(String.format("\\u%04x", (int) c));
                else to.append(c);
            }
            return to.append('"');
        }

        @Override
        public synchronized void close() throws IOException {
            out.close();
        }
    }
}
