use std::collections::HashMap;

use super::*;

struct Bench {
    folder: PathBuf,
    environment: HashMap<&'static str, String>,
}

impl Bench {
    /// A working folder of its own, with a plugins folder and `text` as `wharf.toml`.
    fn new(name: &str, text: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("wharf-config-{}-{name}", std::process::id()));
        fs::create_dir_all(folder.join("plugins")).unwrap();
        fs::write(folder.join("wharf.toml"), text).unwrap();
        Self { folder, environment: HashMap::new() }
    }

    fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.environment.insert(name, value.to_owned());
        self
    }

    fn load(&self, mut flags: Layer) -> Result<Config, ConfigError> {
        if flags.plugins.is_none() {
            flags.plugins = Some(self.folder.join("plugins"));
        }
        let file = Some(self.folder.join("wharf.toml"));
        Config::load(flags, file, |name| self.environment.get(name).map(OsString::from))
    }

    fn error(&self) -> String {
        let error = self.load(Layer::default()).expect_err("must be refused").to_string();
        error.replace(&format!("{}/", self.folder.display()), "")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn http(address: &str) -> Layer {
    Layer { http: Some(address.parse().unwrap()), ..Layer::default() }
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let file = "http = \"127.0.0.1:3\"\nadmin = \"off\"\nhttp2 = false\n";
    let bench = Bench::new("precedence", file);

    let config = bench.load(Layer::default()).unwrap();

    assert_eq!(config.http, address("127.0.0.1:3"));
    assert_eq!(config.https, address("127.0.0.1:8443"));
    assert_eq!(config.admin.listen, None);
    assert!(!config.http2 && config.http3 && config.early_data);

    let bench = bench.variable("WHARF_HTTP", "127.0.0.1:2").variable("WHARF_HTTP2", "on");
    let bench = bench.variable("WHARF_EARLY_DATA", "off");
    assert!(!bench.load(Layer::default()).unwrap().early_data);
    assert_eq!(bench.load(Layer::default()).unwrap().http, address("127.0.0.1:2"));
    assert!(bench.load(Layer::default()).unwrap().http2);
    assert_eq!(bench.load(http("127.0.0.1:1")).unwrap().http, address("127.0.0.1:1"));
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = Bench::new("defaults", "").load(Layer::default()).unwrap();

    assert_eq!(config.http, address("127.0.0.1:8080"));
    assert_eq!(config.admin.listen, address("127.0.0.1:9090"));
    assert_eq!(config.data, Path::new(".wharf"));
    assert_eq!(config.drain_limit, Duration::from_secs(30));
    assert_eq!(config.admission, Admission { requests: 10_000, wait: Duration::from_secs(1) });
    assert!(config.log.access && config.otlp.is_none() && config.certificates.is_empty());
}

#[test]
fn every_limit_can_be_written_and_is_checked() {
    let text = "drain-limit = \"5s\"\n[limits]\nidle-timeout = \"2m\"\nheader-bytes = \"32KiB\"\n\
                streams = 10\nrequests = 5\nadmit-wait = \"250ms\"\n[log]\nplugin-files = 2\n";
    let config = Bench::new("limits", text).load(Layer::default()).unwrap();

    assert_eq!(config.drain_limit, Duration::from_secs(5));
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(120));
    assert_eq!(config.limits.header_bytes, 32 << 10);
    assert_eq!(config.limits.streams, 10);
    assert_eq!(config.admission, Admission { requests: 5, wait: Duration::from_millis(250) });
    assert_eq!(config.log.plugins.files, 2);
}

#[test]
fn the_cache_has_a_size_and_policies_by_name() {
    let defaults = Bench::new("cache-defaults", "").load(Layer::default()).unwrap().cache;
    assert_eq!(defaults.size, 256 << 20);

    let text = "[cache]\nsize = \"1GiB\"\n\
                policies = { weekly = \"max-age=604800\" }";
    let cache = Bench::new("cache", text).load(Layer::default()).unwrap().cache;

    assert_eq!(cache.size, 1 << 30);
    assert_eq!(cache.policies.get("weekly").unwrap().text(), "max-age=604800");
    assert_eq!(cache.policies.get("static").unwrap().text(), "public, max-age=86400, immutable");
}

#[test]
fn what_is_wrong_in_the_file_is_told_by_line_and_cause() {
    for (text, told) in [
        ("\nhtttp = \"off\"", "wharf.toml:2: unknown key `htttp` (did you mean `http`?)"),
        ("[limits]\nstreams = 0", "wharf.toml:2: `streams` is 0: from 1 to 65536"),
        ("[limits]\nidle-timeout = \"2d\"", "wharf.toml:2: `idle-timeout` is 2d: from 10ms to 1d"),
        (
            "http = \"8080\"",
            "wharf.toml:1: `http`: `8080` is not an address: write one such as 127.0.0.1:8080 or \
             [::1]:8080, or off",
        ),
        ("http3 = \"yes\"", "wharf.toml:1: `http3`: `yes` is neither on nor off"),
        (
            "http = \"off\"\nhttps = false",
            "nothing would be served: `http` and `https` are both off",
        ),
        ("admin = \"0.0.0.0:8080\"", "`http` and `admin` both want 0.0.0.0:8080"),
        ("tls-cert = \"a.pem\"", "1 certificates but 0 private keys: each needs the other"),
        ("\n[cache]\nsize = \"100TiB\"", "wharf.toml:3: `size` is 100TiB: from 0B to 64TiB"),
        ("[cache]\nsiez = 1", "wharf.toml:2: unknown key `siez` (did you mean `size`?)"),
        (
            "[cache]\n[cache.policies]\nweekly = \"max-aeg=604800\"",
            "wharf.toml:2: `policies.weekly`: unknown directive \"max-aeg\", did you mean \"max-age\"?",
        ),
        ("threads = 0", "threads: 0 is not from 1 to 1024"),
        ("[otlp]\nsample = 2.0", "wharf.toml:2: `sample` is 2: from 0.0 to 1.0"),
        (
            "[otlp]\nendpoint = \"collector\"",
            "otlp endpoint: `collector` is not a URL such as http://127.0.0.1:4318",
        ),
    ] {
        assert_eq!(Bench::new("wrong", text).error(), told, "{text}");
    }
}

#[test]
fn what_is_wrong_in_the_environment_names_the_variable() {
    let bench = Bench::new("variable", "").variable("WHARF_ADMIN", "nowhere");

    assert!(bench.error().starts_with("environment variable WHARF_ADMIN: `nowhere` is not"));
}

#[test]
fn missing_files_and_folders_are_told_plainly() {
    let bench = Bench::new("missing", "");

    let plugins = Layer { plugins: Some(bench.folder.join("none")), ..Layer::default() };
    let error = bench.load(plugins).unwrap_err();
    assert!(error.to_string().ends_with("none: No such file or directory (os error 2)"));
    assert!(error.hint().is_some());

    let pair = |file: &str| Layer {
        tls_cert: vec![bench.folder.join(file)],
        tls_key: vec![bench.folder.join(file)],
        ..Layer::default()
    };
    let unreadable = bench.load(pair("none.pem")).unwrap_err().to_string();
    assert!(unreadable.starts_with("cannot use the certificate "), "{unreadable}");
    let not_pem = bench.load(pair("wharf.toml")).unwrap_err().to_string();
    assert!(not_pem.ends_with("it holds no PEM block `CERTIFICATE`"), "{not_pem}");

    let named = Config::load(Layer::default(), Some(bench.folder.join("none.toml")), |_| None);
    assert!(matches!(named, Err(ConfigError::NoFile { .. })));
}

#[test]
fn certificates_of_two_layers_are_not_mixed() {
    let file = Layer {
        tls_cert: vec!["file.pem".into()],
        tls_key: vec!["file.key".into()],
        ..Layer::default()
    };
    let flags = Layer { tls_cert: vec!["flag.pem".into()], ..Layer::default() };

    let layer = flags.over(file);

    assert_eq!(layer.tls_cert, [PathBuf::from("flag.pem")]);
    assert!(layer.tls_key.is_empty());
}

#[test]
fn shown_settings_read_back_and_hide_secrets() {
    let text = "data = \"data\"\n[limits]\nurl-bytes = 1000\n[otlp]\nendpoint = \"http://u:hidden@localhost:4318\"\n\
                [otlp.headers]\nauthorization = \"Bearer hidden\"\n";
    let bench = Bench::new("shown", text);

    let shown = bench.load(Layer::default()).unwrap().to_toml();

    assert!(!shown.contains("hidden"), "{shown}");
    fs::write(bench.folder.join("wharf.toml"), &shown).unwrap();
    let again = bench.load(Layer::default()).unwrap();
    assert_eq!(again.to_toml().replace("***", ""), shown.replace("***", ""));
    assert_eq!(again.limits.url_bytes, 1000);
}
