fn main() {
    let path = std::env::args().nth(1).unwrap();
    let d = std::path::PathBuf::from(format!("/tmp/zzp{}", std::process::id()));
    let r = bootd::library::Library::new(&d).import(std::fs::File::open(path).unwrap(), &image::Terms::default(), &mut |_| {});
    println!("{:?}", r.map(|r| (r.size, r.data_bytes)).map_err(|e| e.to_string()));
    std::fs::remove_dir_all(d).unwrap();
}
