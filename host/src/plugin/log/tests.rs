use std::fs;
use std::path::Path;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

struct Bench {
    folder: PathBuf,
    logs: PluginLogs,
}

impl Bench {
    fn new(name: &str, settings: Settings) -> Self {
        let folder = std::env::temp_dir().join(format!("wharf-log-{}-{name}", std::process::id()));
        let logs = PluginLogs::start(folder.clone(), settings).unwrap();
        Self { folder, logs }
    }

    /// The lines of a file without their times.
    fn lines(&self, file: &str) -> Vec<String> {
        assert!(self.logs.flush(LIMIT));
        let text = fs::read_to_string(self.folder.join(file)).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.logs.close(LIMIT);
        let _may_not_exist = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_line_has_time_stream_and_request() {
    let bench = Bench::new("line", Settings::default());
    let log = bench.logs.open("shop");

    log.write(Stream::Stdout, Some("r1"), b"hello\nwor");
    log.write(Stream::Stderr, Some("r2"), b"other\n");
    log.write(Stream::Stdout, Some("r1"), b"ld\n");
    log.write(Stream::Stdout, None, b"at start\n");

    assert_eq!(
        bench.lines("shop.log"),
        ["stdout r1 hello", "stderr r2 other", "stdout r1 world", "stdout - at start"]
    );
    let text = fs::read_to_string(bench.folder.join("shop.log")).unwrap();
    assert!(humantime::parse_rfc3339(text.split_once(' ').unwrap().0).is_ok(), "{text}");
}

#[test]
fn a_request_that_ends_ends_its_lines() {
    let bench = Bench::new("end", Settings::default());
    let log = bench.logs.open("shop");

    log.write(Stream::Stdout, Some("r1"), b"no newline");
    log.write(Stream::Stdout, Some("r2"), b"still writing");
    log.end_request("r1");
    log.write(Stream::Stdout, Some("r2"), b" on\n");

    assert_eq!(bench.lines("shop.log"), ["stdout r1 no newline", "stdout r2 still writing on"]);
}

#[test]
fn control_characters_cannot_forge_lines_or_steer_a_terminal() {
    let bench = Bench::new("control", Settings::default());

    bench.logs.open("evil").write(Stream::Stdout, None, b"a\rb\x1b[2J\xff\tc\r\n");

    assert_eq!(bench.lines("evil.log"), ["stdout - a\\rb\\u{1b}[2J\u{fffd}\tc"]);
}

#[test]
fn a_long_line_is_cut() {
    let bench = Bench::new("long", Settings::default());
    let log = bench.logs.open("shop");

    for _ in 0..3 {
        log.write(Stream::Stdout, None, &[b'x'; MAX_LINE / 2]);
    }
    log.write(Stream::Stdout, None, b"\nnext\n");

    let lines = bench.lines("shop.log");
    assert_eq!(lines[0], format!("stdout - {} [4096 bytes cut]", "x".repeat(MAX_LINE)));
    assert_eq!(lines[1], "stdout - next");
    assert_eq!(bench.logs.dropped_bytes(), 4096);
}

#[test]
fn lines_that_never_end_are_bounded_in_number() {
    let bench = Bench::new("open", Settings::default());
    let log = bench.logs.open("shop");

    for request in 0..10 * MAX_OPEN_LINES {
        log.write(Stream::Stdout, Some(&request.to_string()), b"begun");
    }

    assert_eq!(log.lines.lock().open.len(), MAX_OPEN_LINES);
    assert_eq!(bench.lines("shop.log").len(), 10 * MAX_OPEN_LINES);
}

#[test]
fn files_are_rotated_and_the_oldest_goes() {
    let settings = Settings { file_size: 1000, files: 3, ..Settings::default() };
    let bench = Bench::new("rotate", settings);
    let log = bench.logs.open("shop");

    for number in 0..200 {
        log.write(Stream::Stdout, None, format!("line {number}\n").as_bytes());
        assert!(bench.logs.flush(LIMIT));
    }

    assert_eq!(bench.lines("shop.log").last().map(String::as_str), Some("stdout - line 199"));
    let mut names: Vec<_> = fs::read_dir(&bench.folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .inspect(|entry| assert!(entry.metadata().unwrap().len() <= 1000))
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["shop.log", "shop.log.1", "shop.log.2"]);
}

#[test]
fn a_flood_is_dropped_counted_and_told() {
    let settings = Settings { rate: 1000, burst: 2000, ..Settings::default() };
    let bench = Bench::new("flood", settings);
    let flood = bench.logs.open("flood");
    let calm = bench.logs.open("calm");

    flood.write(Stream::Stdout, None, "flood\n".repeat(100_000).as_bytes());
    calm.write(Stream::Stdout, None, b"heard\n");

    let lines = bench.lines("flood.log");
    let told = lines.iter().position(|line| line.starts_with("wharf - [")).unwrap();
    assert!(told < 60, "{told} lines got through");
    assert!(lines[told].ends_with(" bytes dropped: written faster than the log takes]"));
    assert!(bench.logs.dropped_bytes() > 590_000);
    assert_eq!(bench.lines("calm.log"), ["stdout - heard"]);
}

#[test]
fn a_bucket_refills_at_its_rate_and_no_further_than_its_burst() {
    let settings = Settings { rate: 1000, burst: 2000, ..Settings::default() };
    let mut bucket = Bucket::new(&settings);
    let start = Instant::now();

    assert!(bucket.take(start, 2000));
    assert!(!bucket.take(start, 1));
    assert!(bucket.take(start + Duration::from_millis(500), 500));
    assert!(!bucket.take(start + Duration::from_millis(500), 1));
    assert!(!bucket.take(start + Duration::from_secs(60), 2001));
    assert!(bucket.take(start + Duration::from_secs(60), 2000));
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let bench = Bench::new("full", Settings::default());
    fs::create_dir_all(&bench.folder).unwrap();
    std::os::unix::fs::symlink(Path::new("/dev/full"), bench.folder.join("full.log")).unwrap();
    let full = bench.logs.open("full");
    let calm = bench.logs.open("calm");

    for _ in 0..3 {
        full.write(Stream::Stdout, None, b"lost\n");
        assert!(bench.logs.flush(LIMIT));
    }
    calm.write(Stream::Stdout, None, b"heard\n");

    assert_eq!(bench.lines("calm.log"), ["stdout - heard"]);
    assert!(bench.logs.dropped_bytes() >= 15);
}

#[test]
fn a_folder_that_cannot_be_made_costs_lines_and_nothing_else() {
    let mut bench = Bench::new("folder", Settings::default());
    let file = bench.folder.clone();
    fs::write(&file, "a file").unwrap();
    bench.folder = file.with_extension("gone");

    bench.logs.open("shop").write(Stream::Stdout, None, b"lost\n");

    assert!(bench.logs.flush(LIMIT));
    assert!(bench.logs.dropped_bytes() >= 5);
    fs::remove_file(file).unwrap();
}

#[test]
fn a_plugin_has_one_log_whoever_opens_it() {
    let bench = Bench::new("one", Settings::default());

    let first = bench.logs.open("shop");

    assert!(Arc::ptr_eq(&first, &bench.logs.open("shop")));
    drop(first);
    bench.logs.open("other");
    assert_eq!(bench.logs.shared.open.lock().len(), 1);
}
