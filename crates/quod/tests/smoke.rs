//! smoke
use quod::*;
use quod_storage::*;
use std::path::Path;

#[test]
fn smoke() {
    block_on(async {
        let opener = MemoryOpener::new();
        let name = Path::new("a.qed");
        Image::create(&opener, name, &CreateOptions::new(10 << 30)).await.unwrap();
        let image = Image::open(&opener, name, &OpenOptions::new(Access::Write)).await.unwrap();
        let data = Buffer::copy_of(&vec![7u8; 200_000]);
        image.write(3 << 30, data, Fua::No).await.unwrap();
        image.write(100, Buffer::copy_of(b"hello"), Fua::Yes).await.unwrap();
        let back = image.read((3 << 30) - 10, Buffer::zeroed(200_020)).await.unwrap();
        assert!(
            back[..10].iter().all(|b| *b == 0)
                && back[10..200_010].iter().all(|b| *b == 7)
                && back[200_010..].iter().all(|b| *b == 0)
        );
        image.close().await.unwrap();
        drop(image);
        let report = check(&opener, name, Access::Read, Repair::No).await.unwrap();
        assert_eq!((report.leaks, report.corruptions, report.allocated_clusters), (0, 0, 5), "{report:?}");
        assert!(!inspect(&opener, name, Access::Read).await.unwrap().dirty);
    });
}

#[test]
fn backing() {
    block_on(async {
        let opener = FileOpener;
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base.raw");
        std::fs::write(&base, vec![9u8; 300_000]).unwrap();
        let name = dir.path().join("a.qed");
        let options = CreateOptions {
            backing: Some(NewBacking { name: "base.raw".into(), format: Format::Raw }),
            ..CreateOptions::new(1 << 20)
        };
        Image::create(&opener, &name, &options).await.unwrap();
        let open = OpenOptions { backing: BackingPolicy::Local, ..OpenOptions::new(Access::Write) };
        let image = Image::open(&opener, &name, &open).await.unwrap();
        image.write(70_000, Buffer::copy_of(b"hello"), Fua::No).await.unwrap();
        image.write_zeroes(200_000, 100_000, Room::GiveBack, Fua::No).await.unwrap();
        let back = image.read(0, Buffer::zeroed(1 << 20)).await.unwrap();
        let mut want = vec![9u8; 300_000];
        want.resize(1 << 20, 0);
        want[70_000..70_005].copy_from_slice(b"hello");
        want[200_000..300_000].fill(0);
        assert!(*back == want[..]);
        image.close().await.unwrap();
        drop(image);
        let out = std::process::Command::new("qemu-img").args(["check"]).arg(&name).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        let out = std::process::Command::new("qemu-img")
            .args(["map", "--output=json"])
            .arg(&name)
            .output()
            .unwrap();
        println!("{}", String::from_utf8_lossy(&out.stdout));
    });
}
