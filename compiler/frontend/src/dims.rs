//! Dimensions as users write them: `1x3x224x224`, `Nx3x32`, `x=1x3x48x320`.

use tahoma_core::{Diagnostic, Dim};

/// Largest extent accepted for one axis.
const MAX_DIM: u64 = 1 << 32;

/// Reads `NAME=1x3x224x224`. E0207.
pub fn parse_shape(text: &str) -> Result<(String, Vec<Dim>), Diagnostic> {
    match text.rsplit_once('=') {
        Some((name, dims)) if !name.is_empty() => Ok((name.to_string(), parse_dims(dims)?)),
        _ => Err(Diagnostic::error("E0207", format!("{text:?} is not of the form NAME=1x3x224x224"))),
    }
}

/// Reads `1x3x224x224`; an empty text is a scalar, a name leaves a dimension open. E0207.
pub fn parse_dims(text: &str) -> Result<Vec<Dim>, Diagnostic> {
    let text = text.trim();
    if text.is_empty() || text == "scalar" {
        return Ok(vec![]);
    }
    // A name may hold an x (`max_len`), so commas separate too.
    let parts: Vec<&str> = if text.contains(',') { text.split(',').collect() } else { text.split('x').collect() };
    parts.into_iter().map(|p| parse_dim(p.trim(), text)).collect()
}

fn parse_dim(part: &str, whole: &str) -> Result<Dim, Diagnostic> {
    let bad = |why: &str| {
        Diagnostic::error("E0207", format!("dimension {part:?} of {whole:?} {why}"))
            .note("each dimension is a whole number from 0 up, or a name that stays open")
    };
    if part.is_empty() {
        return Err(bad("is empty"));
    }
    if part.bytes().all(|b| b.is_ascii_digit()) {
        return match part.parse::<u64>() {
            Ok(n) if n <= MAX_DIM => Ok(Dim::Known(n)),
            _ => Err(bad("is too large")),
        };
    }
    if part.starts_with('-') {
        return Err(bad("is negative"));
    }
    let special = matches!(part.to_ascii_lowercase().as_str(), "nan" | "inf" | "infinity");
    if special || part.parse::<f64>().is_ok() {
        return Err(bad("is not a whole number"));
    }
    let named = part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if named && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
        return Ok(Dim::sym(part));
    }
    Err(bad("is neither a number nor a name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_as_typed() {
        assert_eq!(parse_shape("x=1x3xH").unwrap(), ("x".into(), vec![Dim::Known(1), Dim::Known(3), Dim::sym("H")]));
        assert_eq!(parse_dims("").unwrap(), vec![]);
        assert_eq!(parse_dims("2,max_len").unwrap(), vec![Dim::Known(2), Dim::sym("max_len")]);
        for bad in ["x", "x=1xNaN", "x=-1x3", "x=1x1e9", "x=99999999999999999999", "x=1xx3", "x=1x2.5", "x=1x\u{7f}"] {
            assert_eq!(parse_shape(bad).unwrap_err().code, "E0207", "{bad}");
        }
    }
}
