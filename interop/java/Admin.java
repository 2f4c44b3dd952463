import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs mqadmin commands in one process, since each start of a process costs seconds.
 *
 *   Admin --ns HOST:PORT --file FILE
 *
 * Each line of FILE is one command with its arguments, separated by blanks. Its output follows the line "#### COMMAND".
 */
public final class Admin {
    public static void main(String[] args) throws Exception {
        Map<String, String> options = Common.options(args);
        System.setProperty("rocketmq.namesrv.addr", options.get("ns"));
        System.setErr(System.out);
        for (String line : Files.readAllLines(Path.of(options.get("file")))) {
            if (line.isBlank()) continue;
            Common.say("%n#### %s", line);
            try {
                MQAdminStartup.main0(line.trim().split(" +"), null);
            } catch (Throwable t) {
                Common.say("%s", t);
            }
        }
        Common.say("%n#### end");
        System.exit(0);
    }
}
