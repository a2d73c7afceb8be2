//! A local certificate authority, and the certificates of the server and of clients.
//!
//! All lie in one folder: `ca.pem` and `ca.key`; `server.pem` and, by their names, those of
//! clients, each with private key, certificate and authority in one file, as Kafka's
//! `ssl.keystore.location` takes it. Invariants:
//! 1. An authority that is there is never replaced: what trusts it goes on working.
//! 2. A file is there whole or not at all, and one with a private key is its owner's only.
//! 3. Names of the former server certificate stay in the new one, so that a renewal needs no
//!    memory of how the first one was made.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::atomic_file::{self, Readers};
use super::certificate_facts::{self, CertificateFacts};
use super::machine::Machine;

const AUTHORITY_DAYS: u64 = 3653;
/// Apple's limit for authorities that a user trusts, the longest that every client takes. Not the
/// 397 days of public ones: the authority's key lies on the same machine, so a shorter life would
/// protect from nothing, and a home server that stops once a year is the greater evil.
const CERTIFICATE_DAYS: u64 = 825;
/// Clocks of small machines run behind.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// `Display` is a sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{name:?} cannot stand in a certificate: {why}")]
    Name { name: String, why: &'static str },
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{} {what}", path.display())]
    Unusable { path: PathBuf, what: String },
    #[error("the certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
}

/// What lies in the folder now.
#[derive(Debug)]
pub struct Issued {
    pub authority: CertificateFacts,
    pub authority_is_new: bool,
    pub certificate: CertificateFacts,
    /// There was a certificate of this name before.
    pub renewed: bool,
    pub authority_path: PathBuf,
    pub authority_key_path: PathBuf,
    /// Private key, certificate, authority.
    pub path: PathBuf,
}

/// A certificate for the server: for these hosts, this machine's names and addresses, and the
/// loopback. With the authority that is in the folder, else with a new one.
pub fn server(
    folder: &Path,
    hosts: &[String],
    machine: &Machine,
) -> Result<Issued, CertificateError> {
    hosts.iter().try_for_each(|host| check_host(host))?;
    let path = folder.join("server.pem");
    let former = former(folder, &path)?;
    let former_names = former.iter().flat_map(|former| &former.names).cloned();
    let addresses = machine.addresses.iter().map(ToString::to_string);
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names: Vec<String> = Vec::new();
    let given = hosts.iter().cloned().chain(former_names).chain(addresses);
    for name in given.chain(machine.names.iter().cloned()).chain(loopback) {
        let name = canonical(&name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut params = params(&names[0]);
    let alternatives: Result<_, _> = names.iter().map(|name| alternative(name)).collect();
    params.subject_alt_names = alternatives?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(folder, machine, path, params, former)
}

/// A certificate with which a client says who it is (`ssl.client.auth`): its name is `CN=NAME`.
pub fn client(folder: &Path, name: &str, machine: &Machine) -> Result<Issued, CertificateError> {
    let wrong = |why| CertificateError::Name { name: name.to_owned(), why };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with(['.', '-']) || !name.chars().all(fits)
    {
        return Err(wrong("write at most 64 letters, digits and - _ . @"));
    }
    if ["ca", "server"].iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
        return Err(wrong("a file of that name is the server's"));
    }
    let path = folder.join(format!("{name}.pem"));
    let former = former(folder, &path)?;
    let mut params = params(name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(folder, machine, path, params, former)
}

/// Whether a certificate can name this host: an address, or a DNS name.
pub fn check_host(host: &str) -> Result<(), CertificateError> {
    let wrong = |why| Err(CertificateError::Name { name: host.to_owned(), why });
    if host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        (1..=63).contains(&label.len()) && label.chars().all(fits)
    };
    if host.contains("://") || host.contains('/') || host.contains(':') {
        return wrong("write the name or the address alone, without scheme and port");
    }
    if !host.is_ascii() {
        return wrong("write the name as name servers know it, in its xn-- form");
    }
    if host.len() > 253 || !host.strip_prefix("*.").unwrap_or(host).split('.').all(label) {
        return wrong("it is neither an address nor a host name");
    }
    Ok(())
}

fn canonical(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => name.to_ascii_lowercase(),
    }
}

fn alternative(name: &str) -> Result<SanType, rcgen::Error> {
    match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(Ia5String::try_from(name)?)),
    }
}

/// The certificate that is about to be replaced. One that somebody else signed is not.
fn former(folder: &Path, path: &Path) -> Result<Option<CertificateFacts>, CertificateError> {
    let Some(pem) = read(path)? else { return Ok(None) };
    let unusable = |what: String| CertificateError::Unusable { path: path.to_path_buf(), what };
    let authority = read(&folder.join("ca.pem"))?.unwrap_or_default();
    let authority = certificate_facts::read(&authority).map_err(unusable)?.into_iter().next();
    let former = certificate_facts::read(&pem).map_err(unusable)?.into_iter().next();
    match (former, authority) {
        (Some(former), Some(ours)) if former.issuer == ours.subject => Ok(Some(former)),
        (former, _) => {
            let by = former.map_or("nobody".to_owned(), |former| former.issuer);
            Err(unusable(format!(
                "was not made here: it is signed by {by}. It is left alone; name another folder \
                 with --dir"
            )))
        }
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    last(&mut params, CERTIFICATE_DAYS);
    params
}

fn last(params: &mut CertificateParams, days: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now_s = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
    params.not_before = epoch + Duration::from_secs(now_s) - BACKDATED;
    params.not_after = params.not_before + Duration::from_secs(days * 86_400);
}

fn issue(
    folder: &Path,
    machine: &Machine,
    path: PathBuf,
    mut params: CertificateParams,
    former: Option<CertificateFacts>,
) -> Result<Issued, CertificateError> {
    let authority = Authority::of(folder, machine)?;
    // What outlives its authority is worth nothing from then on, and says so only later.
    let authority_end_s = u64::try_from(authority.facts.not_after.as_second()).unwrap_or_default();
    let authority_end = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(authority_end_s);
    params.not_after = params.not_after.min(authority_end);
    let key = KeyPair::generate()?;
    let made = params.signed_by(&key, &authority.issuer)?;
    let text = key.serialize_pem() + &made.pem() + &authority.facts.pem;
    put(&path, &text, Readers::Owner)?;
    let read = certificate_facts::read(made.pem().as_bytes());
    let unusable = |what: String| CertificateError::Unusable { path: path.clone(), what };
    let certificate = read.map_err(unusable)?.swap_remove(0);
    Ok(Issued {
        authority: authority.facts,
        authority_is_new: authority.is_new,
        certificate,
        renewed: former.is_some(),
        authority_path: folder.join("ca.pem"),
        authority_key_path: folder.join("ca.key"),
        path,
    })
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    facts: CertificateFacts,
    is_new: bool,
}

impl Authority {
    /// The folder's own, made where there is none.
    fn of(folder: &Path, machine: &Machine) -> Result<Self, CertificateError> {
        let (path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        match (read(&path)?, read(&key_path)?) {
            (Some(pem), Some(key)) => Self::from_files(&path, &pem, &key_path, &key),
            (None, None) => Self::make(&path, &key_path, machine),
            (Some(_), None) => Err(CertificateError::Unusable {
                path: key_path,
                what: format!(
                    "is missing, and without it nothing can be signed by {}. Bring the key back, \
                     or name another folder with --dir",
                    path.display()
                ),
            }),
            (None, Some(_)) => Err(CertificateError::Unusable {
                path,
                what: format!(
                    "is missing, and {} alone is no authority. Bring the certificate back, or name \
                     another folder with --dir",
                    key_path.display()
                ),
            }),
        }
    }

    fn make(path: &Path, key_path: &Path, machine: &Machine) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = params("");
        params.distinguished_name = rcgen::DistinguishedName::new();
        // With the day, so that two of them can be told apart in a client's list.
        let day = Timestamp::now().strftime("%F");
        let machine = machine.names.first().map_or("this machine", String::as_str);
        let name = format!("Odradek CA of {machine} ({day})");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        last(&mut params, AUTHORITY_DAYS);
        let pem = params.self_signed(&key)?.pem();
        let folder = path.parent().unwrap_or(Path::new("."));
        let failed = |error| CertificateError::File { path: folder.to_path_buf(), error };
        fs::create_dir_all(folder).map_err(failed)?;
        // Both or neither: one alone stops every further try.
        put(key_path, &key.serialize_pem(), Readers::Owner)?;
        put(path, &pem, Readers::Everybody).inspect_err(|_| {
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(key_path);
        })?;
        let key_pem = key.serialize_pem();
        let made = Self::from_files(path, pem.as_bytes(), key_path, key_pem.as_bytes())?;
        Ok(Self { is_new: true, ..made })
    }

    fn from_files(
        path: &Path,
        pem: &[u8],
        key_path: &Path,
        key: &[u8],
    ) -> Result<Self, CertificateError> {
        let unusable = |what: String| CertificateError::Unusable { path: path.to_path_buf(), what };
        let found = certificate_facts::read(pem).map_err(unusable)?;
        let Some(facts) = found.into_iter().next() else {
            return Err(unusable("holds no certificate".to_owned()));
        };
        if !facts.is_authority {
            return Err(unusable("is not the certificate of an authority".to_owned()));
        }
        if facts.not_after <= Timestamp::now() {
            let what = format!(
                "ran out on {}. Move ca.pem and ca.key away and run this again; every client then \
                 needs the new ca.pem",
                facts.not_after.strftime("%F")
            );
            return Err(unusable(what));
        }
        let key = KeyPair::from_pem(&String::from_utf8_lossy(key)).map_err(|error| {
            let what = format!("is no private key that can be used: {error}");
            CertificateError::Unusable { path: key_path.to_path_buf(), what }
        })?;
        if rcgen::PublicKeyData::der_bytes(&key) != facts.public_key {
            let what = format!("does not belong to {}", path.display());
            return Err(CertificateError::Unusable { path: key_path.to_path_buf(), what });
        }
        let issuer = Issuer::from_ca_cert_pem(&facts.pem, key)?;
        Ok(Self { issuer, facts, is_new: false })
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CertificateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CertificateError::File { path: path.to_path_buf(), error }),
    }
}

fn put(path: &Path, text: &str, readers: Readers) -> Result<(), CertificateError> {
    atomic_file::replace(path, text.as_bytes(), readers)
        .map_err(|error| CertificateError::File { path: path.to_path_buf(), error })
}

#[cfg(test)]
mod tests;
