//! How much memory this process may use: that of the machine, or of the control groups it runs in if they allow less. What
//! Java's `getTotalPhysicalMemorySize` tells; `accessMessageInMemoryMaxRatio` is a part of it. Source: `StoreUtil.java`.

use std::{fs, path::Path};

/// Where nothing can be learned. What Java assumes is 24 GiB; a small number only makes answers from old data smaller.
const UNKNOWN: u64 = 8 << 30;

/// Bytes.
pub fn total() -> u64 {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text)).unwrap_or(UNKNOWN);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(files_of).flat_map(|(root, group, file)| limits(root, group, file));
    limits.fold(of_machine, u64::min)
}

fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Of a line of `/proc/self/cgroup`, `number:controllers:group`: where its limits lie, the group, the file's name.
fn files_of(line: &str) -> Option<(&'static str, &str, &'static str)> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
    match number == "0" && controllers.is_empty() {
        true => Some(("/sys/fs/cgroup", group, "memory.max")),
        false if controllers.split(',').any(|name| name == "memory") => {
            Some(("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes"))
        }
        false => None,
    }
}

/// Of the group and all it lies in. In a container the group's own name may mean nothing; its root always does.
fn limits<'a>(root: &'a str, group: &'a str, file: &'a str) -> impl Iterator<Item = u64> + 'a {
    let dirs = Path::new(group).ancestors().filter_map(|dir| dir.strip_prefix("/").ok());
    dirs.filter_map(move |dir| limit(&fs::read_to_string(Path::new(root).join(dir).join(file)).ok()?))
}

/// `max`, or a huge number where nothing is limited.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_files_say() {
        assert_eq!(of_machine("MemFree: 1 kB\nMemTotal:       24684084 kB\n"), Some(24_684_084 * 1024));
        assert_eq!((limit("max\n"), limit("1073741824\n"), limit("0")), (None, Some(1 << 30), None));
        assert_eq!(files_of("0::/a/b"), Some(("/sys/fs/cgroup", "/a/b", "memory.max")));
        let first = files_of("4:cpu,memory:/x:y");
        assert_eq!(first, Some(("/sys/fs/cgroup/memory", "/x:y", "memory.limit_in_bytes")));
        assert_eq!((files_of("1:cpu:/"), files_of("rubbish")), (None, None));
    }

    #[test]
    fn the_smallest_of_the_groups_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/memory.max"), "700").unwrap();
        fs::write(dir.path().join("a/b/memory.max"), "max").unwrap();
        let root = dir.path().to_str().unwrap();
        assert_eq!(limits(root, "/a/b", "memory.max").collect::<Vec<_>>(), [700]);
        assert!(total() > 0);
    }
}
