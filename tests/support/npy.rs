//! Reads the only kind of `.npy` that the references use: little-endian f32 in row-major order.

use std::fs;
use std::path::Path;

/// Reads `(shape, elements)`.
///
/// # Panics
/// On anything else: an unreadable reference is a broken test, not a result.
pub fn read(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\0", "{}: not an npy file of version 1", path.display());
    let body = 10 + u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let header = std::str::from_utf8(&bytes[10..body]).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{}: {header}", path.display());
    let shape = header.split_once('(').unwrap().1.split_once(')').unwrap().0;
    let shape: Vec<usize> =
        shape.split(',').filter(|n| !n.trim().is_empty()).map(|n| n.trim().parse().unwrap()).collect();
    let elements: Vec<f32> = bytes[body..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert_eq!(elements.len(), shape.iter().product::<usize>(), "{}", path.display());
    (shape, elements)
}
