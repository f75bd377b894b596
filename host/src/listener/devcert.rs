//! The development certificate: made on first use, so that HTTPS and HTTP/3 work without set-up.
//!
//! A local certificate authority is made once and kept, so that a user can trust it once; the
//! certificate it signs is renewed when it runs out or the machine's name changes. Private keys are
//! readable by their owner only. Every file is written whole and renamed into place, under a lock:
//! two servers that start at once end with the same files. RFC 5280, and the CA/Browser Forum's
//! limits, which browsers apply to local authorities too.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tracing::info;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the authority is valid.
const CA_LIFE: Duration = DAY.saturating_mul(3650);
/// How long a certificate is valid: browsers refuse more than 398 days.
const LEAF_LIFE: Duration = DAY.saturating_mul(390);
/// Clocks of other machines may be behind.
const BACKDATED: Duration = DAY;
/// What must be left of a certificate, else it is renewed.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);
/// Begins the first line of the authority's key file; then seconds since 1970. PEM allows text before
/// the block (RFC 7468 §5.2), and verifiers do not look at the dates of what they trust.
const VALID_UNTIL: &str = "valid until ";
/// How long another process may hold the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no development certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevCertError {
    /// A file or the folder cannot be used.
    #[error("cannot use {path} for the development certificate")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("another process has been making the development certificate in {path} for too long")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The certificate cannot be made.
    #[error("cannot make a development certificate")]
    Make(#[from] rcgen::Error),
}

/// Where the development certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevCert {
    /// The authority's certificate, for users to trust: `curl --cacert`.
    pub ca: PathBuf,
    /// Certificate and private key, in one file, so that they change together.
    pub pair: PathBuf,
}

impl DevCert {
    /// The files below `folder`, whether they are there or not.
    pub fn in_folder(folder: &Path) -> Self {
        Self { ca: folder.join("ca.pem"), pair: folder.join("localhost.pem") }
    }
}

/// Makes the certificate in `folder`, or renews it, unless it is good for another 30 days of `now`.
/// Blocks: files, a lock, and a few milliseconds of arithmetic when something is made.
///
/// # Errors
/// See [`DevCertError`].
pub fn ensure(folder: &Path, now: SystemTime) -> Result<DevCert, DevCertError> {
    let files = DevCert::in_folder(folder);
    let names = Names::of_this_machine();
    std::fs::create_dir_all(folder)
        .map_err(|source| DevCertError::File { path: folder.to_owned(), source })?;
    if is_good(&files, &names, now + RENEW_BEFORE) {
        return Ok(files);
    }
    let _lock = lock(&folder.join("lock"))?;
    // Another process may have made it while we waited.
    if is_good(&files, &names, now + RENEW_BEFORE) {
        return Ok(files);
    }
    let ca_key_file = folder.join("ca-key.pem");
    let kept = Authority::read(&files.ca, &ca_key_file, now + LEAF_LIFE);
    let authority = match kept {
        Some(authority) => authority,
        None => {
            let authority = Authority::make()?;
            // The key first: a certificate without its key would be given away and never be used.
            let until = since_epoch(now + CA_LIFE).as_secs();
            let key = format!("{VALID_UNTIL}{until}\n{}", authority.key.serialize_pem());
            write(&ca_key_file, &key, 0o600)?;
            let certificate = authority.params(now).self_signed(&authority.key)?;
            write(&files.ca, &certificate.pem(), 0o644)?;
            info!(ca = %files.ca.display(), "development certificate authority made");
            authority
        }
    };
    write(&files.pair, &authority.sign(&names, now)?, 0o600)?;
    info!(certificate = %files.pair.display(), "development certificate made");
    Ok(files)
}

/// The names that the certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    dns: Vec<String>,
}

const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

impl Names {
    fn of_this_machine() -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::with_hostname(hostname.trim())
    }

    fn with_hostname(hostname: &str) -> Self {
        let mut dns = vec!["localhost".to_owned()];
        let hostname = hostname.to_ascii_lowercase();
        let is_name_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_name_byte);
        if hostname.split('.').all(is_label) && hostname != "localhost" {
            dns.push(hostname);
        }
        Self { dns }
    }
}

/// The local authority. Its name has its key in it, so that two of them in one trust store are
/// never mistaken for each other.
struct Authority {
    key: KeyPair,
}

impl Authority {
    fn make() -> Result<Self, rcgen::Error> {
        Ok(Self { key: KeyPair::generate()? })
    }

    /// The authority that was kept, if it is whole and valid at `until`.
    fn read(certificate: &Path, key: &Path, until: SystemTime) -> Option<Self> {
        let key = std::fs::read_to_string(key).ok()?;
        let expires: u64 = key.lines().next()?.strip_prefix(VALID_UNTIL)?.parse().ok()?;
        if since_epoch(until).as_secs() > expires {
            return None;
        }
        let authority = Self { key: KeyPair::from_pem(&key).ok()? };
        // That the files belong together is seen by trying.
        let probe = authority.sign(&Names::with_hostname(""), until - LEAF_LIFE).ok()?;
        let leaf = CertificateDer::from_pem_slice(probe.as_bytes()).ok()?;
        let ca = CertificateDer::from_pem_file(certificate).ok()?;
        verifies(&leaf, &ca, &["localhost".try_into().ok()?], until - DAY).then_some(authority)
    }

    fn params(&self, now: SystemTime) -> CertificateParams {
        let id = blake3::hash(self.key.public_key_raw()).to_hex();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Wharf development CA");
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Wharf development CA {}", &id[..8]));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_epoch(now - BACKDATED);
        params.not_after = epoch + since_epoch(now + CA_LIFE);
        params
    }

    /// A certificate for `names` and its key, as PEM.
    fn sign(&self, names: &Names, now: SystemTime) -> Result<String, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.dns.clone())?;
        params.subject_alt_names.extend(ADDRESSES.map(SanType::IpAddress));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "localhost");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let epoch = date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_epoch(now - BACKDATED);
        params.not_after = epoch + since_epoch(now - BACKDATED + LEAF_LIFE);
        let authority = self.params(now);
        let issuer = Issuer::from_params(&authority, &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    // Whole seconds: certificates have no more.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(since.as_secs())
}

/// Whether the certificate is there, for all `names`, signed by the authority that is there, and
/// valid `until` then.
fn is_good(files: &DevCert, names: &Names, until: SystemTime) -> bool {
    let (Ok(leaf), Ok(ca)) =
        (CertificateDer::from_pem_file(&files.pair), CertificateDer::from_pem_file(&files.ca))
    else {
        return false;
    };
    let key_is_there = rustls::pki_types::PrivateKeyDer::from_pem_file(&files.pair).is_ok();
    let wanted = names.dns.iter().map(|name| name.replace('*', "any"));
    let wanted = wanted.map(|name| ServerName::try_from(name).ok());
    let addresses = ADDRESSES.map(|address| Some(ServerName::IpAddress(address.into())));
    match wanted.chain(addresses).collect::<Option<Vec<_>>>() {
        Some(wanted) => key_is_there && verifies(&leaf, &ca, &wanted, until),
        None => false,
    }
}

fn verifies(
    leaf: &CertificateDer<'_>,
    ca: &CertificateDer<'_>,
    names: &[ServerName<'_>],
    at: SystemTime,
) -> bool {
    use rustls::client::danger::ServerCertVerifier;

    let mut roots = rustls::RootCertStore::empty();
    if roots.add(ca.clone()).is_err() {
        return false;
    }
    let provider = super::tls::provider();
    let builder =
        rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
    let Ok(verifier) = builder.build() else { return false };
    let at = UnixTime::since_unix_epoch(since_epoch(at));
    names.iter().all(|name| verifier.verify_server_cert(leaf, &[], name, &[], at).is_ok())
}

/// An exclusive lock, freed when the file is closed, also by a crash.
fn lock(path: &Path) -> Result<File, DevCertError> {
    let failed = |source| DevCertError::File { path: path.to_owned(), source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let began = std::time::Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if began.elapsed() > LOCK_TIMEOUT => {
                return Err(DevCertError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Writes a file whole, then renames it into place; it never has other rights than `mode`.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), DevCertError> {
    let temporary = path.with_extension("pem.new");
    let written = (|| {
        // What a crash left may have been opened by others.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().create_new(true).write(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    written.map_err(|source| DevCertError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names_of(pair: &Path) -> Vec<String> {
        let leaf = CertificateDer::from_pem_file(pair).unwrap();
        let parsed = webpki::EndEntityCert::try_from(&leaf).unwrap();
        parsed.valid_dns_names().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn what_was_made_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();

        let made = ensure(folder.path(), now).unwrap();
        let first = std::fs::read(&made.pair).unwrap();
        let again = ensure(folder.path(), now + DAY).unwrap();

        assert_eq!(made, again);
        assert_eq!(std::fs::read(&again.pair).unwrap(), first);
        assert!(is_good(&made, &Names::of_this_machine(), now));
        assert!(names_of(&made.pair).contains(&"localhost".to_owned()));
    }

    #[test]
    fn it_is_renewed_before_it_runs_out_and_the_authority_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let made = ensure(folder.path(), now).unwrap();
        let (ca, first) = (std::fs::read(&made.ca).unwrap(), std::fs::read(&made.pair).unwrap());

        ensure(folder.path(), now + LEAF_LIFE - RENEW_BEFORE).unwrap();

        assert_ne!(std::fs::read(&made.pair).unwrap(), first);
        assert_eq!(std::fs::read(&made.ca).unwrap(), ca);
        assert!(is_good(&made, &Names::of_this_machine(), now + LEAF_LIFE));
    }

    #[test]
    fn an_authority_that_would_run_out_first_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let made = ensure(folder.path(), now).unwrap();
        let ca = std::fs::read(&made.ca).unwrap();

        let later = now + CA_LIFE - DAY * 60;
        ensure(folder.path(), later).unwrap();

        assert_ne!(std::fs::read(&made.ca).unwrap(), ca);
        assert!(is_good(&made, &Names::of_this_machine(), later + RENEW_BEFORE));
    }

    #[test]
    fn another_name_of_the_machine_makes_another_certificate_necessary() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let made = ensure(folder.path(), now).unwrap();

        assert!(!is_good(&made, &Names::with_hostname("elsewhere.example"), now));
    }

    #[test]
    fn a_hostname_that_is_no_dns_name_is_left_out() {
        for hostname in ["", "localhost", "my_box", "a..b", "naïve", "a b"] {
            assert_eq!(Names::with_hostname(hostname).dns.len(), 1, "{hostname:?}");
        }
        assert_eq!(Names::with_hostname("Box-1.Example").dns[1], "box-1.example");
    }

    #[test]
    fn a_damaged_pair_is_made_anew_under_the_same_authority() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let made = ensure(folder.path(), now).unwrap();
        let ca = std::fs::read(&made.ca).unwrap();
        std::fs::write(&made.pair, "-----BEGIN CERTIFICATE-----\nhalf").unwrap();

        ensure(folder.path(), now).unwrap();

        assert!(is_good(&made, &Names::of_this_machine(), now));
        assert_eq!(std::fs::read(&made.ca).unwrap(), ca);
    }

    #[test]
    fn private_keys_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        ensure(folder.path(), SystemTime::now()).unwrap();

        for (file, mode) in [("ca.pem", 0o644), ("ca-key.pem", 0o600), ("localhost.pem", 0o600)] {
            let metadata = std::fs::metadata(folder.path().join(file)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, mode & !umask(), "{file}");
        }
    }

    /// What the test process takes from every mode.
    fn umask() -> u32 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("probe");
        OpenOptions::new().create_new(true).write(true).mode(0o777).open(&path).unwrap();
        !std::fs::metadata(&path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn servers_that_start_at_once_end_with_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();

        let pairs: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        std::fs::read(ensure(folder.path(), now)?.pair).map_err(|source| {
                            DevCertError::File { path: folder.path().into(), source }
                        })
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });

        assert!(pairs.windows(2).all(|two| two[0] == two[1]));
    }
}
