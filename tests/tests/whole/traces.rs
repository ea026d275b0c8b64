//! Real traces through `tally ingest`, with the maps of the guide; generated look-alikes where the traces are not there.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::tally::{Tally, out, root, shared};

fn map(name: &str) -> PathBuf {
    root().join("docs/guide/maps").join(name)
}

fn ingest(tally: &Tally, file: &Path, map: &Path) -> String {
    tally.done(&["ingest", file.to_str().unwrap(), "--map", map.to_str().unwrap()])
}

fn tokens(tally: &Tally) -> (String, String) {
    let sum = |meter: &str| tally.value(&format!("SELECT sum(quantity) FROM usage.charges WHERE meter = '{meter}'"));
    (sum("tokens.input"), sum("tokens.output"))
}

#[test]
fn the_azure_traces_are_counted_once_whatever_happens() {
    let tally = Tally::new();
    let map = map("azure-llm-2023.toml");
    let (files, sums) = match shared() {
        Some(shared) => {
            let folder = shared.join("data/traces/azure-llm-2023");
            let files = ["code", "conv"].map(|name| folder.join(format!("AzureLLMInferenceTrace_{name}.csv.gz")));
            // code 18,059,974 in / 245,896 out; conv 22,361,870 / 4,088,665
            (files.to_vec(), ("40421844.000000000".to_owned(), "4334561.000000000".to_owned()))
        }
        None => generated(tally.scratch()),
    };
    for file in &files {
        ingest(&tally, file, &map);
    }
    assert_eq!(tokens(&tally), sums);
    let charged = tally.value("SELECT sum(amount) FROM usage.charges");
    // The same files again, in another order after a restart, and after deleting the identity index: nothing changes.
    for file in files.iter().rev() {
        ingest(&tally, file, &map);
    }
    std::fs::remove_dir_all(tally.home().join("index")).unwrap();
    ingest(&tally, &files[0], &map);
    assert_eq!(tokens(&tally), sums);
    assert_eq!(tally.value("SELECT sum(amount) FROM usage.charges"), charged);
    // One digit changed in one row: a conflict, the total unchanged.
    let name = files[0].file_name().unwrap().to_str().unwrap().trim_end_matches(".gz").to_owned();
    let changed = tally.scratch().join(&name);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(std::fs::File::open(&files[0]).unwrap()), &mut text).unwrap();
    let row = text.lines().nth(100).unwrap().to_owned();
    let last = row.trim_end().chars().last().unwrap();
    let other = if last == '1' { '2' } else { '1' };
    let mended = format!("{}{other}", &row.trim_end()[..row.trim_end().len() - 1]);
    std::fs::write(&changed, text.replacen(&row, &mended, 1)).unwrap();
    ingest(&tally, &changed, &map);
    assert_eq!(tally.value("SELECT count(*) FROM usage.events WHERE outcome = 'conflict'"), "1");
    assert_eq!(tokens(&tally), sums);
    tally.check().unwrap();
}

/// Two files in the form of the Azure traces, and their sums.
fn generated(folder: &Path) -> (Vec<PathBuf>, (String, String)) {
    let mut random = datasets::Random::new(3);
    let (mut input, mut output) = (0, 0);
    let mut files = Vec::new();
    for name in ["code", "conv"] {
        let path = folder.join(format!("AzureLLMInferenceTrace_{name}.csv.gz"));
        let mut file = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        writeln!(file, "TIMESTAMP,ContextTokens,GeneratedTokens").unwrap();
        for row in 0..2_000_u64 {
            let (context, made) = (1 + random.below(7_000), 1 + random.below(700));
            input += context;
            output += made;
            writeln!(file, "2023-11-16 18:{:02}:{:02}.{:07},{context},{made}", row / 60 % 60, row % 60, random.below(10_000_000)).unwrap();
        }
        file.finish().unwrap();
        files.push(path);
    }
    (files, (format!("{input}.000000000"), format!("{output}.000000000")))
}

#[test]
fn the_openb_pods_are_leases_and_the_unscheduled_are_filtered() {
    let Some(shared) = shared() else { return };
    let tally = Tally::new();
    let file = shared.join("data/traces/alibaba-gpu-v2023/openb_pod_list_default.csv.gz");
    let said = ingest(&tally, &file, &map("openb-pods.toml"));
    assert!(said.contains("897"), "filtered rows are counted and printed: {said}");
    let sum = tally.value("SELECT sum(quantity) FROM usage.charges WHERE meter = 'gpu.milli-seconds'");
    assert_eq!(sum, "185294426970.000000000");
    tally.check().unwrap();
}

#[test]
fn a_killed_ingest_goes_on_where_it_was() {
    let tally = Tally::new();
    let (files, sums) = generated(tally.scratch());
    let map = map("azure-llm-2023.toml");
    for file in &files {
        for _ in 0..3 {
            let mut child = std::process::Command::new(crate::tally::binary())
                .arg("--home")
                .arg(tally.home())
                .args(["ingest", file.to_str().unwrap(), "--map", map.to_str().unwrap()])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(150));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        ingest(&tally, file, &map);
    }
    assert_eq!(tokens(&tally), sums);
    tally.check().unwrap();
}

#[test]
fn a_broken_row_stops_with_its_number_and_the_run_goes_on_after_it_is_mended() {
    let tally = Tally::new();
    let file = tally.scratch().join("broken.csv");
    let rows = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00.0000000,10,1\n2023-11-16 18:00:01.0000000,ten,1\n";
    std::fs::write(&file, rows).unwrap();
    let output = tally.run(&["ingest", file.to_str().unwrap(), "--map", map("azure-llm-2023.toml").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    let text = crate::tally::err(&output);
    assert!(text.contains("row 2") && text.contains("ten"), "{text}");
    std::fs::write(&file, rows.replace("ten", "11")).unwrap();
    ingest(&tally, &file, &map("azure-llm-2023.toml"));
    assert_eq!(tokens(&tally), ("21.000000000".to_owned(), "2.000000000".to_owned()));
}
