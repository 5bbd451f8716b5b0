//! scratch
mod contenders;
mod reference;
use contenders::*;
use std::time::Instant;

fn ns(c: &dyn Contender, threads: usize, keys: &[u64]) -> f64 {
    let n = 2_000_000u64;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let worst = std::thread::scope(|s| {
            let hs: Vec<_> = (0..threads)
                .map(|t| {
                    s.spawn(move || {
                        let start = Instant::now();
                        let mut sum = 0u64;
                        let mut i = t * 7;
                        for _ in 0..n {
                            i += 1;
                            if i >= keys.len() {
                                i = 0;
                            }
                            sum = sum.wrapping_add(c.find(keys[i]).unwrap());
                        }
                        std::hint::black_box(sum);
                        start.elapsed().as_nanos() as f64 / n as f64
                    })
                })
                .collect();
            hs.into_iter().map(|h| h.join().unwrap()).fold(0.0, f64::max)
        });
        best = best.min(worst);
    }
    best
}

fn main() {
    let mut x = 88172645463325252u64;
    let keys: Vec<u64> = (0..1021)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % 50
        })
        .collect();
    let cs: Vec<(&str, Box<dyn Contender>)> = vec![
        ("ours d0", Box::new(Ours::new(50, 512))),
        ("ours d1", Box::new(Ours::new(50, 1 << 21))),
        ("ours d2", Box::new(Ours::new(50, 1 << 28))),
        ("reference", Box::new(Reference::new())),
        ("quick", Box::new(Quick::new(64))),
    ];
    for (name, c) in &cs {
        for k in 0..50 {
            c.load(k);
        }
        for k in 0..50 {
            c.find(k).unwrap();
        }
        println!("{name} 1: {:.1} 2: {:.1}", ns(&**c, 1, &keys), ns(&**c, 2, &keys));
    }
}
