//! The two sides of the comparison: how a batch's files are written by the product, and how bytes are written bare.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant as Timer};

use anyhow::ensure;
use arrow::record_batch::RecordBatch;
use platform_ingest::events::{EVENTS_ORDER, EVENTS_SORT, events_to_arrow};
use platform_ingest::header::TableFile;
use platform_rating::{CHARGES_ORDER, CHARGES_SORT, TOTALS_ORDER, TOTALS_SORT, charges_to_arrow, totals_to_arrow};
use shared_db::{Database, Statement};
use shared_lake::files::Entry;
use shared_lake::{Contents, Files, RealFiles};
use shared_types::WriterEpoch;

use crate::world::Batch;

/// A table of a batch, as `server/src/lake.rs` writes it.
struct Table {
    name: &'static str,
    rows: fn(&Batch) -> Result<RecordBatch, arrow::error::ArrowError>,
    /// Columns that tell rows apart: they are digested in this order.
    order: &'static [&'static str],
    /// Order in the file.
    sort: &'static [&'static str],
    /// Columns with bounds.
    statistics: &'static [&'static str],
}

const TABLES: [Table; 3] = [
    Table {
        name: "events",
        rows: |batch| events_to_arrow(&batch.built.rows),
        order: EVENTS_ORDER,
        sort: EVENTS_SORT,
        statistics: &["organization", "accepted_at", "outcome"],
    },
    Table {
        name: "charges",
        rows: |batch| charges_to_arrow(&batch.rated.charges),
        order: CHARGES_ORDER,
        sort: CHARGES_SORT,
        statistics: &["organization", "start_at", "accepted_at", "meter", "fate"],
    },
    Table {
        name: "totals",
        rows: |batch| totals_to_arrow(&batch.rated.totals),
        order: TOTALS_ORDER,
        sort: TOTALS_SORT,
        statistics: &["organization", "service_period", "accounting_period"],
    },
];

/// The folders of a reign's files below a lake's folder.
pub fn folders(epoch: WriterEpoch) -> impl Iterator<Item = String> {
    TABLES.iter().map(move |table| format!("{}/{epoch}", table.name))
}

/// The three files of a batch, and what making them took.
pub struct Written {
    /// As the header names them.
    pub tables: Vec<TableFile>,
    /// Rows to Arrow.
    pub arrow: Duration,
    /// Row digests.
    pub digest: Duration,
    /// Sorting.
    pub sort: Duration,
    /// Parquet and the files themselves.
    pub parquet_and_files: Duration,
}

/// Writes the three files of a batch, durably, as the server does.
pub fn write_tables(files: &dyn Files, lake: &Path, epoch: WriterEpoch, batch: &Batch) -> anyhow::Result<Written> {
    let nothing = Duration::ZERO;
    let mut written =
        Written { tables: Vec::with_capacity(TABLES.len()), arrow: nothing, digest: nothing, sort: nothing, parquet_and_files: nothing };
    for table in &TABLES {
        let began = Timer::now();
        let rows = (table.rows)(batch)?;
        let arrow = began.elapsed();
        let row_digest = shared_lake::row_digest(&rows, table.order)?;
        let digest = began.elapsed();
        let sorted = shared_lake::sort(&rows, table.sort)?;
        let sort = began.elapsed();
        let path = format!("{}/{epoch}/{row_digest}.parquet", table.name);
        let contents = Contents {
            schema: &rows.schema(),
            batches: &[sorted],
            metadata: &[("tallystick.table", table.name), ("tallystick.format", "1")],
            statistics: table.statistics,
        };
        let meta = shared_lake::write_file(files, lake, &path, &contents)?;
        written.arrow += arrow;
        written.digest += digest.saturating_sub(arrow);
        written.sort += sort.saturating_sub(digest);
        written.parquet_and_files += began.elapsed().saturating_sub(sort);
        written.tables.push(TableFile { bytes: meta.bytes, path, row_digest, rows: meta.rows, table: table.name.to_owned() });
    }
    Ok(written)
}

/// The real file system with a stop watch, and a count of its syncs.
#[derive(Debug, Default)]
pub struct TimedFiles {
    nanos: AtomicU64,
    syncs: AtomicU64,
}

impl TimedFiles {
    /// Time spent in file operations so far.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// Syncs of files and folders so far.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    fn timed<T>(&self, syncs: u64, work: impl FnOnce() -> T) -> T {
        let started = Timer::now();
        let done = work();
        self.nanos.fetch_add(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.syncs.fetch_add(syncs, Ordering::Relaxed);
        done
    }
}

impl Files for TimedFiles {
    /// One sync: the folders exist before anything is measured, and then only the parent is synced.
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        if !path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} must exist", path.display())));
        }
        self.timed(1, || RealFiles.create_folder(path))
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.timed(0, || RealFiles.create(path, bytes))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.timed(1, || RealFiles.sync(path))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.timed(0, || RealFiles.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.timed(0, || RealFiles.remove(path))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.timed(1, || RealFiles.sync_folder(path))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.timed(0, || RealFiles.read(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.timed(0, || RealFiles.list(path))
    }
}

const CREATE: Statement = Statement {
    name: "benches.create_plain",
    sqlite: "CREATE TABLE plain (no INTEGER PRIMARY KEY, header TEXT NOT NULL)",
    postgres: "CREATE TABLE plain (no bigint PRIMARY KEY, header text NOT NULL)",
};
const INSERT: Statement = Statement {
    name: "benches.insert_plain",
    sqlite: "INSERT INTO plain (no, header) VALUES ($1, $2)",
    postgres: "INSERT INTO plain (no, header) VALUES ($1, $2)",
};

/// Files and one row, with nothing around them.
pub struct Plain {
    folder: PathBuf,
    database: Database,
    /// 2: a file and its folder. 3: the folder above it too.
    syncs_per_file: u64,
}

impl Plain {
    /// In a folder and a database of their own. The connection has the product's settings: WAL, synchronous=FULL.
    pub async fn open(scratch: &Path, name: &str, syncs_per_file: u64) -> anyhow::Result<Self> {
        ensure!((2..=3).contains(&syncs_per_file), "{syncs_per_file} syncs for a file were not thought of");
        let database = Database::open_sqlite(scratch.join(format!("{name}.db")), &[]).await?;
        let mut tx = database.begin().await?;
        tx.execute(&CREATE, &[]).await?;
        tx.commit().await?;
        Ok(Self { folder: scratch.join(name), database, syncs_per_file })
    }

    /// Where the files go.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Syncs of a commit of three files.
    pub fn syncs(&self) -> u64 {
        self.syncs_per_file * 3
    }

    /// Puts many rows in one transaction, unmeasured.
    pub async fn fill(&self, numbers: std::ops::Range<u64>, header: &str) -> anyhow::Result<()> {
        let mut tx = self.database.begin().await?;
        for number in numbers {
            tx.execute(&INSERT, &[i64::try_from(number)?.into(), header.into()]).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Writes three files and one row, durably; how long it took.
    pub async fn commit(&self, number: u64, files: &[(String, Vec<u8>)], header: &str) -> anyhow::Result<Duration> {
        let started = Timer::now();
        for (path, bytes) in files {
            self.write(&self.folder.join(path), bytes)?;
        }
        let mut tx = self.database.begin().await?;
        tx.execute(&INSERT, &[i64::try_from(number)?.into(), header.into()]).await?;
        tx.commit().await?;
        Ok(started.elapsed())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        let above = if self.syncs_per_file == 3 { 2 } else { 1 };
        for folder in path.ancestors().skip(1).take(above) {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}
