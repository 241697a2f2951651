//! llm.c's shards of token ids.

use std::fs;
use std::path::PathBuf;

use calame::data::{ShardError, TokenShard};
use calame::files::FileError;
use tempfile::TempDir;

/// A shard with this header and these ids.
fn shard(header: [u32; 3], ids: &[u16]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text_train_000001.bin");
    let mut bytes: Vec<u8> = header.iter().flat_map(|n| n.to_le_bytes()).collect();
    bytes.resize(1024, 0);
    bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn refused(header: [u32; 3], n_ids: usize) -> ShardError {
    let (_folder, path) = shard(header, &vec![7; n_ids]);
    let error = TokenShard::open(&path).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn ids_are_read_by_position() {
    // More ids than are read at a time, including the largest id.
    let ids: Vec<u16> = (0..200_000u32).map(|i| (i * 31 % 65_536) as u16).collect();
    let (_folder, path) = shard([20_240_520, 1, 200_000], &ids);
    let shard = TokenShard::open(&path).unwrap();
    assert_eq!(shard.n_tokens(), 200_000);
    for range in [0..200_000, 199_999..200_000, 70_000..70_001, 5..140_000, 3..3, 0..1] {
        let mut found = vec![u32::MAX; range.len()];
        shard.read(range.clone(), &mut found).unwrap();
        let expected: Vec<u32> = ids[range.clone()].iter().map(|&id| u32::from(id)).collect();
        assert!(found == expected, "{range:?}");
    }
}

#[test]
fn other_files_are_refused() {
    let foreign = |header, n_ids, expected: &str| {
        let error = refused(header, n_ids);
        assert!(matches!(error, ShardError::Foreign { .. }) && error.to_string().contains(expected), "{error}");
    };
    foreign([20_240_326, 1, 4], 4, "20240326: expected 20240520 (ids of 16 bits)");
    // Ids of 32 bits have another header.
    foreign([20_240_801, 1, 4], 8, "the header's version is 1: expected 7");
    foreign([20_240_520, 7, 4], 8, "the header's version is 7: expected 1");
}

#[test]
fn contradictory_sizes_are_refused() {
    for (n_claimed, n_ids) in [(5, 4), (3, 4), (u32::MAX, 4), (0, 1), (1, 0)] {
        let error = refused([20_240_520, 1, n_claimed], n_ids);
        assert!(matches!(error, ShardError::Size { .. }), "{error}");
        let expected = 1024 + 2 * u64::from(n_claimed);
        assert!(error.to_string().contains(&format!("{} bytes, expected {expected}", 1024 + 2 * n_ids)), "{error}");
    }
    let (_folder, path) = shard([20_240_520, 1, 0], &[]);
    assert_eq!(TokenShard::open(&path).unwrap().n_tokens(), 0);
    fs::write(&path, [8; 5]).unwrap();
    assert!(TokenShard::open(&path).unwrap_err().to_string().contains("5 bytes, expected 1024"));
    fs::remove_file(&path).unwrap();
    assert!(matches!(TokenShard::open(&path).unwrap_err(), ShardError::File(FileError { action: "open", .. })));
}

#[test]
#[should_panic(expected = "TokenShard::read: 3..5 of 4 tokens into 2")]
fn a_range_beyond_the_end_is_our_own_bug() {
    let (_folder, path) = shard([20_240_520, 1, 4], &[1, 2, 3, 4]);
    let _ = TokenShard::open(&path).unwrap().read(3..5, &mut [0; 2]);
}
