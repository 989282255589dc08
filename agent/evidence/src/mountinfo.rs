//! `/proc/PID/mountinfo`: what is mounted where in a container.

/// One mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) device: (u32, u32),
    /// Which folder of the file system is mounted.
    pub(crate) root: Vec<u8>,
    pub(crate) point: Vec<u8>,
    pub(crate) read_only: bool,
    pub(crate) kind: Vec<u8>,
    /// The options of the file system.
    options: Vec<u8>,
}

impl Mount {
    /// The value of an option of the file system.
    pub(crate) fn option(&self, name: &str) -> Option<Vec<u8>> {
        self.options_of(name).next()
    }

    /// The folders of an overlay's image, topmost first.
    pub(crate) fn lower(&self) -> Vec<Vec<u8>> {
        let joined = self.options_of("lowerdir").flat_map(|list| folders(&list));
        // Of newer kernels: one option for each folder. Folders that hold only data have no names of their own.
        joined.chain(self.options_of("lowerdir+")).collect()
    }

    fn options_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Vec<u8>> + 'a {
        self.options
            .split(|byte| *byte == b',')
            .filter_map(move |option| {
                let value = option.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
                Some(unescape(value))
            })
    }
}

/// All mounts, in the order in which they were made.
pub(crate) fn mounts(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n')
        .filter_map(mount)
        .collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let options = fields.next()?;
    // Optional fields, as many as there are.
    fields.by_ref().find(|field| *field == b"-")?;
    let kind = unescape(fields.next()?);
    let of_system = fields.nth(1).unwrap_or_default();
    let read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|o| o == b"ro");
    Some(Mount {
        device: (major.parse().ok()?, minor.parse().ok()?),
        root,
        point,
        read_only: read_only(options) || read_only(of_system),
        kind,
        options: of_system.to_owned(),
    })
}

/// Spaces, tabs, ends of lines and backslashes stand as `\040` and so on.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|_| byte == b'\\');
        let value = digits
            .filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)))
            .map(|digits| {
                (digits.iter()).fold(0u32, |sum, digit| sum * 8 + u32::from(digit - b'0'))
            });
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(value) => {
                plain.push(value);
                rest = &tail[3..];
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    plain
}

/// The folders of a list, in which a backslash stands before a colon that separates nothing.
fn folders(list: &[u8]) -> Vec<Vec<u8>> {
    let mut folders = vec![Vec::new()];
    let mut bytes = list.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, folders.last_mut()) {
            (b':', _) => folders.push(Vec::new()),
            (b'\\', Some(folder)) => folder.extend(bytes.next()),
            (byte, Some(folder)) => folder.push(byte),
            (_, None) => {}
        }
    }
    folders.retain(|folder| !folder.is_empty());
    folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
1519 1420 0:231 / / rw,relatime master:501 shared:3 - overlay overlay rw,lowerdir=/s/9/fs:/s/8\\134:b/fs,upperdir=/s/10/f\\040s,workdir=/s/10/work,uuid=on
1520 1519 0:235 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1536 1519 254:0 /var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/scratch /with\\040space rw,relatime - ext4 /dev/vda rw
1537 1519 0:99 / /var/run/secrets ro,relatime - tmpfs tmpfs rw,size=1k
torn line
";

    #[test]
    fn the_parts_of_a_mount_are_told_apart() {
        let mounts = mounts(TEXT.as_bytes());
        assert_eq!(mounts.len(), 4);
        let [root, proc, volume, secret] = &mounts[..] else {
            panic!()
        };
        assert_eq!(
            (&root.point[..], &root.kind[..]),
            (&b"/"[..], &b"overlay"[..])
        );
        assert_eq!(root.option("upperdir").unwrap(), b"/s/10/f s");
        assert_eq!(root.lower(), [b"/s/9/fs".to_vec(), b"/s/8:b/fs".to_vec()]);
        assert_eq!(proc.option("upperdir"), None);
        assert_eq!(volume.point, b"/with space");
        assert_eq!(volume.device, (254, 0));
        assert!(volume.root.ends_with(b"/kubernetes.io~empty-dir/scratch"));
        assert!(secret.read_only && !volume.read_only);
    }

    #[test]
    fn newer_kernels_write_an_option_for_each_folder() {
        let line =
            "1 1 0:2 / / rw - overlay o rw,lowerdir+=/a:b,lowerdir+=/c,datadir+=/d,upperdir=/u";
        assert_eq!(
            mount(line.as_bytes()).unwrap().lower(),
            [b"/a:b".to_vec(), b"/c".to_vec()]
        );
    }

    #[test]
    fn data_only_folders_and_a_late_backslash_do_no_harm() {
        assert_eq!(folders(b"/a::/data\\"), [b"/a".to_vec(), b"/data".to_vec()]);
        assert_eq!(unescape(b"\\04\\999\\400x\\"), b"\\04\\999\\400x\\");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..400)) {
            for mount in mounts(&text) {
                let _ = (mount.lower(), mount.option("upperdir"));
            }
        }

        #[test]
        fn near_misses_do_not_panic(line in "1 2 [0-9:]{0,5} (/|\\\\04|\\\\040| ){0,8} r[ow] (-|x)? ?overlay o? ?(rw|,|lowerdir=|\\\\|:|/){0,12}") {
            for mount in mounts(line.as_bytes()) {
                let _ = mount.lower();
            }
        }
    }
}
