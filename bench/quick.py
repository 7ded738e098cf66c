#!/usr/bin/env python3
"""CPU of each proxy for the same work, side by side: request/response by redis-benchmark, bulk by iperf3.

Proxies on core 0, clients and backends on core 1, rounds interleaved in random order. Prints raw rows, then for each peer
the ratio of Weir's CPU per operation to the peer's with a 95 % interval (paired log ratios). It stops everything it started.
Until `weir-bench` exists, this is what shows where Weir stands; it measures CPU, not latency.

    bench/quick.py [--rounds 7] [--weir target/release/weir] [--connections 64]
"""

import argparse, json, math, os, random, shutil, signal, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "peers")
SCRATCH = tempfile.mkdtemp(prefix="weir-quick-")


def arms(weir):
    """Name, command, ports for request/response and bulk; only what is installed."""
    envoy = shutil.which("envoy")
    wanted = [
        ("weir", [weir, "run", "-c", f"{PEERS}/weir.toml"], 41041, 41042),
        ("haproxy-splice", ["haproxy", "-f", f"{PEERS}/haproxy-splice.cfg"], 41001, 41002),
        ("haproxy-copy", ["haproxy", "-f", f"{PEERS}/haproxy-copy.cfg"], 41011, 41012),
        ("nginx", ["nginx", "-c", f"{PEERS}/nginx.conf", "-g", f"pid {SCRATCH}/nginx.pid;"], 41021, 41022),
        ("envoy", [envoy or "envoy", "-c", f"{PEERS}/envoy.yaml", "--concurrency", "1", "--log-level", "error"], 41031, 41032),
    ]
    for arm in wanted:
        if shutil.which(arm[1][0]):
            yield arm
        else:
            print(f"# {arm[0]} is not installed: left out", file=sys.stderr)


def start(core, command):
    return subprocess.Popen(["taskset", "-c", str(core)] + command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def family(pid):
    """The process and its children: nginx works in one."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return [pid] + [int(child) for child in children]


def cpu(pid):
    """Seconds of all threads, user and system, of the process and its children; from schedstat, which counts nanoseconds."""
    total = 0
    for member in family(pid):
        for task in os.listdir(f"/proc/{member}/task"):
            try:
                total += int(open(f"/proc/{member}/task/{task}/schedstat").read().split()[0])
            except FileNotFoundError:
                pass
    return total / 1e9


def rr(port, connections, requests):
    out = subprocess.run(
        ["taskset", "-c", "1", "redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", str(connections),
         "-n", str(requests), "-t", "set", "-d", "10", "--csv"], capture_output=True, text=True, check=True, timeout=60).stdout
    rate = float(out.strip().splitlines()[-1].split(",")[1].strip('"'))
    return requests, rate


def bulk(port, seconds):
    out = subprocess.run(
        ["taskset", "-c", "1", "iperf3", "-c", "127.0.0.1", "-p", str(port), "-P", "4", "-t", str(seconds), "-J"],
        capture_output=True, text=True, check=True, timeout=60).stdout
    got = json.loads(out)["end"]["sum_received"]
    return got["bytes"] / 1e9, got["bits_per_second"] / 8e9


def interval(ratios):
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.mean(logs)
    t = {3: 4.30, 5: 2.78, 7: 2.45, 9: 2.31, 11: 2.23}.get(len(logs), 2.1)
    half = t * statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else float("nan")
    return tuple(math.exp(x) for x in (mean, mean - half, mean + half))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--weir", default="target/release/weir")
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--requests", type=int, default=100_000)
    options.add_argument("--seconds", type=int, default=3)
    options = options.parse_args()
    children, rows = [], []
    try:
        children.append(start(1, ["redis-server", "--bind", "127.0.0.1", "--port", "41100", "--save", "", "--appendonly", "no"]))
        children.append(start(1, ["iperf3", "-s", "-p", "41200"]))
        running = []
        for name, command, rr_port, bulk_port in arms(options.weir):
            child = start(0, command)
            children.append(child)
            running.append((name, child.pid, rr_port, bulk_port))
        time.sleep(2)
        for child in children:
            if child.poll() is not None:
                sys.exit(f"{' '.join(child.args)} ended at once with {child.returncode}")
        print("round,arm,work,operations,cpu_seconds,per_operation_us,rate")
        for turn in range(options.rounds):
            for work in ("rr", "bulk"):
                for name, pid, rr_port, bulk_port in random.sample(running, len(running)):
                    before = cpu(pid)
                    done, rate = rr(rr_port, options.connections, options.requests) if work == "rr" else bulk(bulk_port, options.seconds)
                    spent = cpu(pid) - before
                    rows.append((turn, name, work, spent / done))
                    print(f"{turn},{name},{work},{done:.3f},{spent:.4f},{spent / done * 1e6:.3f},{rate:.1f}", flush=True)
        for work in ("rr", "bulk"):
            ours = {turn: cost for turn, name, kind, cost in rows if name == "weir" and kind == work}
            for name in {name for _, name, _, _ in rows} - {"weir"}:
                theirs = {turn: cost for turn, other, kind, cost in rows if other == name and kind == work}
                middle, low, high = interval([ours[turn] / theirs[turn] for turn in ours])
                print(f"# {work}: weir / {name} = {middle:.3f} [{low:.3f}, {high:.3f}]")
    finally:
        for child in reversed(children):
            child.send_signal(signal.SIGTERM)
        for child in children:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(SCRATCH, ignore_errors=True)


main()
