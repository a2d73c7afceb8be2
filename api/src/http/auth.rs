//! Who is asking.
//!
//! 1. `Authorization: Basic` is checked against the broker's users. A wrong password is always 401,
//!    and comes late, the more so the more often logins from the address failed
//!    (`odradek_broker::auth`).
//! 2. Without it, only a connection from this machine is let in, as `User:ANONYMOUS`, and only if
//!    it names this machine in `Host` and was not forwarded by a proxy. Else a web page anywhere
//!    could point its own name at 127.0.0.1 and read the topics (DNS rebinding), and a reverse
//!    proxy on this machine would make the whole network "local".
//! 3. What changes something is refused when a browser says that another site's page sent it.
//!
//! A password check costs a key derivation of milliseconds, on purpose; a program that polls would
//! pay it each time. So the last few good credentials are remembered for a minute, as a keyed hash.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use odradek_broker::Checked;
use odradek_broker::acl::Operation;
use odradek_broker::client::Principal;
use odradek_broker::diagnose;

use super::Shared;
use super::problem::Problem;

/// A changed password is noticed over HTTP after at most this long.
const REMEMBERED_TIME_MAX: Duration = Duration::from_secs(60);
const REMEMBERED_MAX: usize = 64;
/// Headers that a proxy adds.
const FORWARDED: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// Credentials that were right a moment ago.
#[derive(Default)]
pub struct Remembered {
    /// Two independently keyed hashes: 128 bits that mean nothing outside this process.
    keys: (RandomState, RandomState),
    known: Mutex<HashMap<(u64, u64), (Instant, Principal)>>,
}

impl Remembered {
    fn key(&self, credentials: &(String, String)) -> (u64, u64) {
        (self.keys.0.hash_one(credentials), self.keys.1.hash_one(credentials))
    }

    fn find(&self, credentials: &(String, String)) -> Option<Principal> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, principal) = known.get(&self.key(credentials))?;
        (at.elapsed() < REMEMBERED_TIME_MAX).then(|| principal.clone())
    }

    fn add(&self, credentials: &(String, String), principal: &Principal) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| at.elapsed() < REMEMBERED_TIME_MAX);
        if known.len() < REMEMBERED_MAX {
            known.insert(self.key(credentials), (Instant::now(), principal.clone()));
        }
    }

    /// Called when a user is changed or deleted through this process.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Puts the caller's [`Principal`] into the request, or answers with a problem.
pub async fn authenticate(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    match principal(&shared, peer, request.method(), request.headers()).await {
        Ok(principal) => {
            // Remembered ones may have come from elsewhere.
            request.extensions_mut().insert(principal.at(peer.ip()));
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn principal(
    shared: &Shared,
    peer: SocketAddr,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Principal, Problem> {
    if !method.is_safe() {
        refuse_other_sites(headers)?;
    }
    if let Some(text) = headers.get(header::AUTHORIZATION) {
        let credentials = text.to_str().ok().and_then(basic).ok_or_else(|| {
            unauthorised("the Authorization header is not Basic authentication that can be read")
        })?;
        if let Some(principal) = shared.remembered.find(&credentials) {
            return Ok(principal);
        }
        let (user, password) = &credentials;
        return match shared.services.check_password(user, password, peer).await {
            Checked::Right(principal) => {
                shared.remembered.add(&credentials, &principal);
                Ok(principal)
            }
            Checked::Wrong => {
                let problem = unauthorised("wrong user or password");
                Err(problem.diagnosis(diagnose::WRONG_PASSWORD))
            }
            Checked::TooMany => Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "many logins from this address failed, and wait for their answers",
            )
            .hint("try again in a few seconds")
            .diagnosis(diagnose::LOGINS_SLOWED)),
        };
    }
    if is_local(peer.ip(), headers) {
        return Ok(Principal::anonymous());
    }
    Err(unauthorised("a user and a password are needed except on this machine itself"))
}

/// In a handler's arguments: the caller may look at the cluster (Describe).
pub struct MayDescribe;

/// In a handler's arguments: the caller may change the cluster (Alter).
pub struct MayAlter;

impl FromRequestParts<Shared> for MayDescribe {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        may_on_cluster(parts, shared, Operation::Describe).await.map(|()| Self)
    }
}

impl FromRequestParts<Shared> for MayAlter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        may_on_cluster(parts, shared, Operation::Alter).await.map(|()| Self)
    }
}

async fn may_on_cluster(
    parts: &Parts,
    shared: &Shared,
    operation: Operation,
) -> Result<(), Problem> {
    let principal = parts.extensions.get::<Principal>();
    let principal = principal.ok_or_else(|| unauthorised("nobody is known to ask"))?;
    Ok(shared.services.admin(principal).may_on_cluster(operation).await?)
}

fn unauthorised(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
        .hint("send Basic authentication; `odradek user add NAME` on the server makes a user")
}

/// From this machine, addressed as this machine, and not through a proxy.
fn is_local(peer: IpAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    peer.to_canonical().is_loopback()
        && host.is_some_and(is_loopback_host)
        && !FORWARDED.iter().any(|name| headers.contains_key(*name))
}

/// Whether this host, with or without a port, is this machine as itself.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    address || name.eq_ignore_ascii_case("localhost")
}

/// A browser names the page that sends a request; only our own may change things.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("host").unwrap_or_default();
    let foreign_origin = headers.contains_key(header::ORIGIN)
        && text("origin").and_then(|origin| origin.split_once("://")).map(|(_, at)| at)
            != Some(host);
    if foreign_origin || matches!(text("sec-fetch-site"), Some("cross-site" | "same-site")) {
        let detail = "the request was sent by a page of another site";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail)
            .hint("change things from this server's own console, or from a program"));
    }
    Ok(())
}

pub fn basic(text: &str) -> Option<(String, String)> {
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback_hosts() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["", "example.org", "10.0.0.30:8080", "[::2]", "localhost.example.org:1", "1"] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn basic_credentials_may_hold_colons_in_the_password() {
        // RFC 7617, section 2: "Aladdin" and "open sesame".
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), pair("Aladdin", "open sesame"));
        assert_eq!(basic("basic YTpiOmM="), pair("a", "b:c"));
        assert_eq!(basic("Bearer x"), None);
        assert_eq!(basic("Basic !"), None);
    }
}
