//! Unpacks what the program carries for images: a deflate stream (RFC 1951), which build.rs has
//! made. Written for size, not for speed: it is tens of kilobytes, once.

/// The content of a stream. One that is broken ends early.
pub(super) fn inflate(packed: &[u8]) -> Vec<u8> {
    let mut bits = Bits {
        bytes: packed.iter(),
        buffer: 0,
        count: 0,
    };
    let mut out = Vec::new();
    let _ = blocks(&mut bits, &mut out);
    out
}

/// The stream, from the lowest bit of each byte on.
struct Bits<'a> {
    bytes: std::slice::Iter<'a, u8>,
    buffer: u32,
    count: u32,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<usize> {
        while self.count < count {
            self.buffer |= u32::from(*self.bytes.next()?) << self.count;
            self.count += 8;
        }
        let taken = self.buffer & ((1 << count) - 1);
        self.buffer >>= count;
        self.count -= count;
        Some(taken as usize)
    }
}

/// A canonical Huffman code: how many symbols have codes of each length, and the symbols in
/// the order of their codes.
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn of(lengths: &[usize]) -> Code {
        let mut counts = [0; 16];
        let mut symbols = Vec::new();
        for (length, count) in counts.iter_mut().enumerate().skip(1) {
            let before = symbols.len();
            symbols.extend((0..lengths.len()).filter(|symbol| lengths[*symbol] == length));
            *count = symbols.len() - before;
        }
        Code { counts, symbols }
    }

    fn read(&self, bits: &mut Bits) -> Option<usize> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1)?;
            if code < first + count {
                return self.symbols.get(index + code - first).copied();
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

fn blocks(bits: &mut Bits, out: &mut Vec<u8>) -> Option<()> {
    loop {
        let is_last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(bits, out)?,
            1 => {
                let lengths = [[8; 144].as_slice(), &[9; 112], &[7; 24], &[8; 8]].concat();
                compressed(bits, out, &Code::of(&lengths), &Code::of(&[5; 30]))?;
            }
            _ => {
                let (literals, distances) = codes(bits)?;
                compressed(bits, out, &literals, &distances)?;
            }
        }
        if is_last {
            return Some(());
        }
    }
}

/// A block as it is, at the next whole byte.
fn stored(bits: &mut Bits, out: &mut Vec<u8>) -> Option<()> {
    bits.take(bits.count % 8)?;
    let length = bits.take(16)?;
    bits.take(16)?;
    for _ in 0..length {
        out.push(bits.take(8)? as u8);
    }
    Some(())
}

/// The codes of a block that has its own.
fn codes(bits: &mut Bits) -> Option<(Code, Code)> {
    const ORDER: [usize; 19] = [
        16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
    ];
    let literals = bits.take(5)? + 257;
    let all = literals + bits.take(5)? + 1;
    let mut lengths = [0; 19];
    for place in &ORDER[..bits.take(4)? + 4] {
        lengths[*place] = bits.take(3)?;
    }
    let code = Code::of(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < all {
        let (length, times) = match code.read(bits)? {
            16 => (*lengths.last()?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    let (literals, distances) = lengths.split_at(literals);
    Some((Code::of(literals), Code::of(distances)))
}

fn compressed(bits: &mut Bits, out: &mut Vec<u8>, literals: &Code, distances: &Code) -> Option<()> {
    loop {
        let length = match literals.read(bits)? {
            256 => return Some(()),
            byte @ 0..256 => {
                out.push(byte as u8);
                continue;
            }
            285 => 258,
            symbol => 3 + scaled(symbol - 257, 4, bits)?,
        };
        let distance = 1 + scaled(distances.read(bits)?, 2, bits)?;
        let from = out.len().checked_sub(distance)?;
        // It may copy what it has just written.
        for place in from..from + length {
            out.push(out[place]);
        }
    }
}

/// Lengths and distances grow by powers of two, `steps` symbols for each: the low bits follow.
fn scaled(symbol: usize, steps: usize, bits: &mut Bits) -> Option<usize> {
    match (symbol / steps).checked_sub(1) {
        None => Some(symbol),
        Some(extra) => {
            let base = (steps + symbol % steps) << extra;
            Some(base + bits.take(extra as u32)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_each_kind_are_unpacked() {
        // By zlib: stored, with the fixed code, and with a code of its own.
        let stored = b"\x01\x05\x00\xfa\xffhello";
        assert_eq!(inflate(stored), b"hello");
        let fixed = b"\xcbH\xcd\xc9\xc9W\xc8@'\x01";
        assert_eq!(inflate(fixed), b"hello hello hello hello");
    }

    proptest::proptest! {
        #[test]
        fn what_is_packed_comes_out_again(text in "[a-e ]{0,3000}", level in 0_u8..=10) {
            let text = text.repeat(3);
            let packed = miniz_oxide::deflate::compress_to_vec(text.as_bytes(), level);
            proptest::prop_assert!(inflate(&packed) == text.as_bytes());
        }

        #[test]
        fn what_is_no_stream_ends(bytes: Vec<u8>) {
            inflate(&bytes);
        }
    }
}
