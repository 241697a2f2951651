//! Writes figures to files.

use std::path::Path;

use super::canvas::Canvas;
use super::error::PlotError;
use crate::files::replace_bytes;

const PIXELS_PER_INCH: u32 = 200;

/// Writes a figure in the format of the path's extension.
pub(super) fn write_canvas(canvas: &Canvas, title: &str, path: &Path) -> Result<(), PlotError> {
    let bytes = match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("pdf") => canvas.to_pdf(title),
        Some("svg") => canvas.to_svg(title).into_bytes(),
        Some("png") => canvas.to_png(PIXELS_PER_INCH).map_err(|reason| PlotError::Png { reason })?,
        _ => return Err(PlotError::Format { path: path.to_owned() }),
    };
    replace_bytes(path, &bytes).map_err(|error| PlotError::Io { path: path.to_owned(), source: error.source })
}
