//! The web console: files embedded in the binary, served with their hash as ETag.
//!
//! `build.rs` compresses every file of `api/console/` once, so nothing is read or compressed while
//! serving, and the page works without any other host. The security policy says so to the browser.

use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::not_found;
use crate::http::problem::Problem;

/// One file of `api/console/`, as `build.rs` lists them.
struct File {
    /// `/app.js`.
    path: &'static str,
    /// Of the plain bytes.
    hash: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/console_files.rs"));

const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'";

/// Everything that no other route answers.
pub async fn file(request: Request) -> Response {
    let path = match request.uri().path() {
        "/" => "/index.html",
        path => path,
    };
    let Some(file) = FILES.iter().find(|file| file.path == path) else {
        return not_found(request.uri()).into_response();
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this is a file").into_response();
    }
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let gzip = text(header::ACCEPT_ENCODING).is_some_and(accepts_gzip);
    // A strong tag is of the bytes sent, so the compressed form has one of its own.
    let etag = format!("\"{}{}\"", file.hash, if gzip { "-gzip" } else { "" });
    let is_known = text(header::IF_NONE_MATCH).is_some_and(|tags| tags.contains(&etag));
    let common = [
        (header::ETAG, etag.as_str()),
        // Asked again each time, answered with 304: a new version is seen at once.
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept-encoding"),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let kind = [(header::CONTENT_TYPE, content_type(file.path))];
    if gzip {
        return (common, kind, [(header::CONTENT_ENCODING, "gzip")], file.gzip).into_response();
    }
    (common, kind, file.plain).into_response()
}

fn accepts_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(";q=").unwrap_or((coding, "1"));
        name.trim().eq_ignore_ascii_case("gzip") && weight.trim().parse() != Ok(0.0)
    })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("json" | "map") => "application/json",
        Some("woff2") => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

/// On every answer, whatever it is.
pub async fn security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}
