//! Writes figures to files, and recognises them.

use std::path::Path;

use super::canvas::Canvas;
use super::error::PlotError;
use crate::files::{Crc32, read_at_most, replace_bytes};

const PIXELS_PER_INCH: u32 = 200;
/// Maximum size of a figure in bytes.
const MAX_FIGURE_BYTES: u64 = 256 << 20;
/// Bytes of a PNG before its second chunk: signature and header.
const PNG_HEAD_BYTES: usize = 8 + 25;
/// A chunk of text in a PNG that names the program, without its length and checksum.
const PNG_AUTHOR: &[u8] = b"tEXtSoftware\0calame";
/// How an SVG of calame begins, and the author in the description of a PDF.
const SVG_START: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"";
const PDF_AUTHOR: &[u8] = b"/Creator (calame)";

/// Writes a figure in the format of the path's extension.
pub(super) fn write_canvas(canvas: &Canvas, title: &str, path: &Path) -> Result<(), PlotError> {
    let bytes = match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("pdf") => canvas.to_pdf(title),
        Some("svg") => canvas.to_svg(title).into_bytes(),
        Some("png") => with_author(canvas.to_png(PIXELS_PER_INCH).map_err(|reason| PlotError::Png { reason })?),
        _ => return Err(PlotError::Format { path: path.to_owned() }),
    };
    replace_bytes(path, &bytes).map_err(|error| PlotError::Io { path: path.to_owned(), source: error.source })
}

/// Whether the file at `path` is a figure that calame has written.
pub fn is_figure(path: &Path) -> bool {
    let Ok(bytes) = read_at_most(path, MAX_FIGURE_BYTES) else { return false };
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    bytes.starts_with(SVG_START)
        || (bytes.starts_with(b"%PDF") && has(PDF_AUTHOR))
        || bytes.get(PNG_HEAD_BYTES + 4..).is_some_and(|rest| rest.starts_with(PNG_AUTHOR))
}

/// Adds the program's name to a PNG, after its header.
fn with_author(mut png: Vec<u8>) -> Vec<u8> {
    let mut crc = Crc32::new();
    crc.update(PNG_AUTHOR);
    let length = (PNG_AUTHOR.len() - 4) as u32;
    let chunk = [&length.to_be_bytes(), PNG_AUTHOR, &crc.finish().to_be_bytes()].concat();
    png.splice(PNG_HEAD_BYTES..PNG_HEAD_BYTES, chunk);
    png
}
