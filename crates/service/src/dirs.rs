//! Where things are kept that outlive a run and can be made again. Follows the XDG rule, so that one setting moves all.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::CliError;

/// `${XDG_CACHE_HOME:-~/.cache}/remaster`. Not made here: whoever writes first makes it.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` says where.
pub fn cache_dir() -> Result<PathBuf, CliError> {
    cache_dir_of(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")).ok_or_else(|| {
        CliError::failed("no folder for the cache: neither XDG_CACHE_HOME nor HOME is set")
            .with_hint("set XDG_CACHE_HOME to a folder that may be written")
    })
}

/// The XDG rule: a relative `XDG_CACHE_HOME` is to be ignored.
fn cache_dir_of(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    let base = xdg_cache_home
        .and_then(absolute)
        .or_else(|| Some(home.and_then(absolute)?.join(".cache")))?;
    Some(base.join("remaster"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_goes_before_home_and_relative_ones_are_ignored() {
        let dir =
            |xdg: Option<&str>, home: Option<&str>| cache_dir_of(xdg.map(Into::into), home.map(Into::into));
        assert_eq!(dir(Some("/c"), Some("/h")), Some("/c/remaster".into()));
        assert_eq!(dir(Some("c"), Some("/h")), Some("/h/.cache/remaster".into()));
        assert_eq!(dir(None, Some("/h")), Some("/h/.cache/remaster".into()));
        assert_eq!(dir(None, None), None);
    }
}
