//! `cargo xtask bench-http`: `GET /` of `examples/hello` under `wrk`, beside `wasmtime serve` with the same component.
//!
//! Role: builds or installs both, and measures them in pairs, one after the other, each pair in the other order than the one
//! before. Both make an instance for each request, with memory out of a pool; beyond that each is as it comes, busway with
//! its limits on time and memory, wasmtime without any and without what would cost it time. Invariant: an answer that is no
//! 2xx, or a connection that failed, makes the run fail: it would be a figure of something else.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, command, print, program, root, run, say, shown, target};
use crate::proofs::Numbers;
use crate::{guests, tools};

/// The wasmtime beside which busway is measured: the version that it embeds.
const WASMTIME: &str = "48.0.8";

/// What `wasmtime serve` needs of its crate, with concurrency, which it cannot be without. What only takes time when it is
/// there (profiling, debugging, garbage collection) is left out.
const FEATURES: &str =
    "run,serve,component-model-async,cranelift,parallel-compilation,pooling-allocator,backtrace,demangle,addr2line";

/// At least as fast as this part of `wasmtime serve`.
const WANTED: f64 = 0.9;

/// How often a server is looked for before it is given up.
const LOOKS: u32 = 1_200;

/// A server that ends with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `wrk` told.
struct Figures {
    per_second: f64,
    /// As `wrk` writes it, such as `1.23ms`.
    p99: String,
}

pub(crate) fn run_bench(numbers: &Numbers) -> Result<()> {
    let [pairs, seconds, connections] =
        [("--pairs", 5), ("--seconds", 8), ("--connections", 64)].map(|(name, usual)| numbers.number(name, usual));
    guests::build()?;
    run(cargo().args(["build", "--release", "--package", "busway-cli"]))?;
    tools::debian(&[("wrk", "wrk")])?;
    let wasmtime = wasmtime()?;
    let component = root().join("examples/hello/services/hello.wasm");
    let load = Load { seconds, connections };
    print(&format!("GET / of hello, wrk with 2 threads, {connections} connections, {seconds} s each\n"));
    print("pair  busway/s     p99  wasmtime/s     p99  ratio\n");
    let [mut all_ours, mut all_theirs, mut ratios] = [const { Vec::new() }; 3];
    for pair in 0..pairs.max(1) {
        let ours = || measure(&load, |port| busway(&component, port));
        let theirs = || measure(&load, |port| Ok(serve(&wasmtime, &component, port)));
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = ours()?;
            (ours, theirs()?)
        } else {
            let theirs = theirs()?;
            (ours()?, theirs)
        };
        let ratio = ours.per_second / theirs.per_second;
        print(&format!(
            "{:>4}  {:>8.0}  {:>6}  {:>10.0}  {:>6}  {ratio:.2}\n",
            pair + 1,
            ours.per_second,
            ours.p99,
            theirs.per_second,
            theirs.p99
        ));
        all_ours.push(ours.per_second);
        all_theirs.push(theirs.per_second);
        ratios.push(ratio);
    }
    let (ours, theirs, median) = (median(all_ours), median(all_theirs), median(ratios));
    print(&format!("medians: {ours:.0}/s beside {theirs:.0}/s, ratio {median:.2} (wanted: {WANTED})\n"));
    ensure!(
        median >= WANTED,
        "busway answers {median:.2} times as many requests as wasmtime serve; wanted is {WANTED}"
    );
    Ok(())
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// `wasmtime`, installed into `target/tools` unless it is there.
fn wasmtime() -> Result<PathBuf> {
    let folder = target().join("tools/wasmtime");
    let binary = folder.join("bin").join(format!("wasmtime{}", std::env::consts::EXE_SUFFIX));
    let told = command(&binary).arg("--version").output();
    if told.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains(WASMTIME)) {
        return Ok(binary);
    }
    say("installing wasmtime-cli; that takes a while");
    let features = ["--no-default-features", "--features", FEATURES];
    let install = ["install", "wasmtime-cli", "--version", WASMTIME, "--locked", "--root"];
    run(cargo().args(install).arg(&folder).args(features))?;
    Ok(binary)
}

/// A free port of this machine.
fn port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn busway(component: &Path, port: u16) -> Result<Command> {
    let app = target().join("tools/bench-http");
    std::fs::create_dir_all(&app)?;
    let manifest = format!(
        "[services.hello]\ncomponent = {:?}\n\n[gateway]\nlisten = \"127.0.0.1:{port}\"\n\n\
         [gateway.rate]\nrequests = \"1000000/s\"\n\n[[gateway.routes]]\n\
         name = \"hello\"\npath = \"/\"\nservice = \"hello\"\n",
        component.display().to_string()
    );
    std::fs::write(app.join("busway.toml"), manifest).context("the manifest cannot be written")?;
    let mut busway = command(&program("busway", "release"));
    busway.env("BUSWAY_RUNTIME_DIR", &app).arg("run").arg(&app);
    Ok(busway)
}

fn serve(wasmtime: &Path, component: &Path, port: u16) -> Command {
    let mut serve = command(wasmtime);
    // What the Rust of the component imports beside HTTP; and the pool, which it would silently go without.
    serve.args(["serve", "-Scli", "-Opooling-allocator=y", "--addr", &format!("127.0.0.1:{port}")]).arg(component);
    serve
}

/// What `wrk` does to each.
struct Load {
    seconds: u64,
    connections: u64,
}

/// Starts a server, warms it up, and measures it.
fn measure(load: &Load, server: impl FnOnce(u16) -> Result<Command>) -> Result<Figures> {
    let port = port()?;
    let mut server = server(port)?;
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let how = shown(&server);
    let mut server = Server(server.spawn().context("the server cannot be started")?);
    until_it_answers(&mut server, port).with_context(|| format!("`{how}`"))?;
    wrk(load, port, 1)?;
    wrk(load, port, load.seconds)
}

fn until_it_answers(server: &mut Server, port: u16) -> Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..LOOKS {
        if answers(address).is_some_and(|line| line.contains(" 200 ")) {
            return Ok(());
        }
        if server.0.try_wait()?.is_some() {
            bail!("the server ended; run it by hand to see why");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("the server does not answer")
}

/// The first line of the answer to `GET /`.
fn answers(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(line)
}

fn wrk(load: &Load, port: u16, seconds: u64) -> Result<Figures> {
    let mut wrk = command(Path::new("wrk"));
    wrk.args(["--threads", "2", "--latency", "--connections", &load.connections.to_string()]);
    wrk.args(["--duration", &format!("{seconds}s"), &format!("http://127.0.0.1:{port}/")]);
    let told = wrk.output().context("wrk cannot be started; it is Debian's package `wrk`")?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    ensure!(told.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&told.stderr));
    figures(&text)
}

/// Reads what `wrk` prints.
fn figures(text: &str) -> Result<Figures> {
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start)).map(str::trim);
    for bad in ["Non-2xx or 3xx responses:", "Socket errors:"] {
        ensure!(after(bad).is_none(), "not every request was answered: {text}");
    }
    let per_second = after("Requests/sec:").and_then(|number| number.parse().ok());
    let p99 = after("99%").map(str::to_owned);
    match (per_second, p99) {
        (Some(per_second), Some(p99)) => Ok(Figures { per_second, p99 }),
        _ => bail!("wrk said something else than expected: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "Running 1s test @ http://127.0.0.1:1/\n  Latency Distribution\n     50%    1.00ms\n     \
                        99%    4.50ms\n  100 requests in 1.00s, 1MB read\nRequests/sec:  12345.67\n";

    #[test]
    fn figures_are_read_and_a_run_with_failures_is_none() {
        let read = figures(TOLD).expect("figures");
        assert!((read.per_second - 12345.67).abs() < 0.001);
        assert_eq!(read.p99, "4.50ms");
        for bad in ["  Non-2xx or 3xx responses: 3\n", "  Socket errors: connect 0, read 3, write 0, timeout 0\n"] {
            assert!(figures(&format!("{TOLD}{bad}")).is_err());
        }
        assert!(figures("nothing").is_err());
    }
}
