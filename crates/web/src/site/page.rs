//! The page, which is in the binary.
//!
//! *Lives here:* its files and their types. It loads nothing from elsewhere.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// A part of the page that a browser loads by itself.
#[derive(Debug)]
pub struct PageFile {
    /// Its path below the base path.
    pub path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

impl PageFile {
    /// Returns the answer with this file.
    pub fn response(&self) -> Response {
        ([(CONTENT_TYPE, self.media_type)], self.text).into_response()
    }
}

/// All files of the page.
pub const FILES: [PageFile; 4] = [
    PageFile {
        path: "/",
        media_type: "text/html; charset=utf-8",
        text: include_str!("../../page/index.html"),
    },
    PageFile {
        path: "/app.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("../../page/app.css"),
    },
    PageFile {
        path: "/app.js",
        media_type: "text/javascript; charset=utf-8",
        text: include_str!("../../page/app.js"),
    },
    PageFile { path: "/icon.svg", media_type: "image/svg+xml", text: include_str!("../../page/icon.svg") },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_has_no_inline_script_and_loads_nothing_from_elsewhere() {
        let all: usize = FILES.iter().map(|file| file.text.len()).sum();
        assert!(all <= 150 << 10, "{all} bytes");
        for file in &FILES {
            for strange in ["http://", "https://", "innerHTML", "style=", "eval("] {
                let found = file.text.replace("http://www.w3.org/", "");
                assert!(!found.contains(strange), "{}: {strange}", file.path);
            }
        }
        let html = FILES[0].text;
        assert_eq!(html.matches("<script").count(), html.matches("<script src=").count());
        assert!(!html.contains("<style"), "the policy forbids it");
    }
}
