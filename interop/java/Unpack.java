import com.github.luben.zstd.ZstdInputStream;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/** Takes a file out of its Zstandard wrapper: Unpack FROM TO. */
public final class Unpack {
    public static void main(String[] args) throws Exception {
        try (InputStream in = new ZstdInputStream(Files.newInputStream(Path.of(args[0])))) {
            Files.copy(in, Path.of(args[1]));
        }
    }
}
