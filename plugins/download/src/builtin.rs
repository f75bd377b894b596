//! The files that are always there: `builtin/NAME` in the granted folder, written when first asked for.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::kept::FOLDER;

const BUILTIN: &str = "builtin";

/// 12 s of H.264 and AAC in MP4: a key frame a second, the index before the content.
static SAMPLE: &[u8] = include_bytes!("sample.mp4");

/// 16 s at the default rate of `/download/limited`.
const BULK: u64 = 16 << 20;

/// A file that comes with the plugin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Builtin {
    /// A video.
    Video,
    /// Bytes that do not compress.
    Bulk,
}

impl Builtin {
    /// The path of the file, which is there then.
    pub(crate) fn ready(self) -> io::Result<String> {
        self.within(Path::new(FOLDER))?;
        Ok(format!("{FOLDER}/{BUILTIN}/{}", self.name()))
    }

    fn within(self, folder: &Path) -> io::Result<()> {
        let folder = folder.join(BUILTIN);
        let path = folder.join(self.name());
        // Another version of the plugin's has another length.
        if fs::metadata(&path).is_ok_and(|file| file.len() == self.length()) {
            return Ok(());
        }
        fs::create_dir_all(&folder)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let aside = folder.join(format!("{:016x}.part", u64::from_be_bytes(random)));
        let written = File::create_new(&aside)
            .and_then(|file| self.write(file))
            .and_then(|()| fs::rename(&aside, &path));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }

    fn name(self) -> &'static str {
        match self {
            Self::Video => "sample.mp4",
            Self::Bulk => "bulk.bin",
        }
    }

    fn length(self) -> u64 {
        match self {
            Self::Video => SAMPLE.len() as u64,
            Self::Bulk => BULK,
        }
    }

    fn write(self, mut file: File) -> io::Result<()> {
        match self {
            Self::Video => file.write_all(SAMPLE),
            Self::Bulk => {
                let mut file = BufWriter::with_capacity(1 << 20, file);
                // xorshift64 (Marsaglia, 2003): any state but 0.
                let mut state: u64 = 0x5748_4152_4657_4841;
                for _ in 0..BULK / 8 {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    file.write_all(&state.to_le_bytes())?;
                }
                file.flush()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn files_are_written_when_they_are_not_there_whole() {
        let folder = Folder::new("builtin");
        let video = folder.path().join(BUILTIN).join("sample.mp4");

        Builtin::Video.within(folder.path()).unwrap();
        let first = fs::read(&video).unwrap();
        fs::write(&video, "cut").unwrap();
        Builtin::Video.within(folder.path()).unwrap();
        Builtin::Bulk.within(folder.path()).unwrap();

        assert!(first == SAMPLE && fs::read(&video).unwrap() == SAMPLE);
        let bulk = fs::metadata(folder.path().join(BUILTIN).join("bulk.bin")).unwrap();
        assert_eq!(bulk.len(), BULK);
        assert_eq!(fs::read_dir(folder.path().join(BUILTIN)).unwrap().count(), 2);
    }

    /// Seeking without the whole file needs the index (`moov`) before the content (`mdat`).
    #[test]
    fn video_begins_with_its_index() {
        let at = |name: &[u8]| SAMPLE.windows(4).position(|window| window == name).unwrap();

        assert_eq!(&SAMPLE[4..8], b"ftyp");
        assert!(at(b"moov") < at(b"mdat"));
    }
}
