//! Pages of Parquet columns in Zstandard and Brotli.
//!
//! The `parquet` crate would need C for the one and a compressor for the other. It is given such a column as if it were
//! not compressed, and returns the pages as they are in the file; they are decompressed here, in Rust.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use ruzstd::decoding::StreamingDecoder;

/// Maximum size of a decompressed page in bytes. Writers make pages of 1 MB, or of one larger value.
const MAX_PAGE_BYTES: u64 = 1 << 30;

/// A codec that the `parquet` crate does not decode here.
#[derive(Clone, Copy, Debug)]
enum Codec {
    Zstd,
    Brotli,
}

/// The pages of one column in one row group.
pub(super) struct Pages {
    stored: SerializedPageReader<File>,
    codec: Codec,
    /// Maximum size of a page in bytes: that of the whole column, as the footer claims it.
    max_bytes: u64,
}

impl Pages {
    /// The pages of a column; `None` if the crate decodes its codec.
    pub(super) fn open(file: &Arc<File>, column: &ColumnChunkMetaData, n_rows: usize) -> Result<Option<Pages>> {
        let codec = match column.compression() {
            Compression::ZSTD(_) => Codec::Zstd,
            Compression::BROTLI(_) => Codec::Brotli,
            _ => return Ok(None),
        };
        let max_bytes = u64::try_from(column.uncompressed_size()).unwrap_or(0).min(MAX_PAGE_BYTES);
        let as_stored = column.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let stored = SerializedPageReader::new(Arc::clone(file), &as_stored, n_rows, None)?;
        Ok(Some(Pages { stored, codec, max_bytes }))
    }

    /// Decompresses what follows the first `n_plain` bytes of a page.
    fn decompress(&self, stored: &[u8], n_plain: usize) -> Result<Vec<u8>> {
        let failed = |error: &dyn std::fmt::Display| ParquetError::General(format!("{:?}: {error}", self.codec));
        let (plain, packed) = stored.split_at_checked(n_plain).ok_or_else(|| failed(&"a page is cut off"))?;
        let mut page = plain.to_vec();
        // A page whose values are all absent may have no bytes at all.
        if !packed.is_empty() {
            // One byte more than the limit shows that the limit is exceeded.
            let mut limited: Box<dyn Read + '_> = match self.codec {
                Codec::Zstd => Box::new(StreamingDecoder::new(packed).map_err(|error| failed(&error))?),
                Codec::Brotli => Box::new(brotli_decompressor::Decompressor::new(packed, 4096)),
            };
            limited.by_ref().take(self.max_bytes + 1).read_to_end(&mut page).map_err(|error| failed(&error))?;
        }
        if page.len() as u64 > self.max_bytes {
            return Err(failed(&format!("a page of more than {} bytes", self.max_bytes)));
        }
        Ok(page)
    }

    fn decoded(&self, mut page: Page) -> Result<Page> {
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => *buf = self.decompress(buf, 0)?.into(),
            Page::DataPageV2 { is_compressed: false, .. } => {}
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                // The levels are never compressed.
                let n_levels = def_levels_byte_len.saturating_add(*rep_levels_byte_len) as usize;
                *buf = self.decompress(buf, n_levels)?.into();
            }
        }
        Ok(page)
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.stored.get_next_page()?;
        page.map(|page| self.decoded(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.stored.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.stored.skip_next_page()
    }
}
