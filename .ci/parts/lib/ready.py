"""How long a start takes: from exec until /readyz says yes, the median of nine; then whether names are resolved inside."""
import http.client, re, statistics, subprocess, sys, time

goal, config, command = float(sys.argv[1]), sys.argv[2], sys.argv[3:]
text = open(config).read()
port = int(re.search(r"admin:\s+address: 127\.0\.0\.1:(\d+)", text).group(1))
inside = "/var/lib/fhirwall/demo/fhirwall.yaml"


def ready():
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


took = []
for turn in range(9):
    begun = time.monotonic()
    process = subprocess.Popen(command + ["run", "--config", inside], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not ready():
        if process.poll() is not None or time.monotonic() - begun > 20:
            sys.exit("it did not get ready")
        time.sleep(0.002)
    took.append((time.monotonic() - begun) * 1000)
    if turn == 8:
        for name in ("localhost", "127.0.0.1"):
            subprocess.run(command + ["probe", "readyz", "--url", f"http://{name}:{port}"], check=True)
        print("probe from inside: ready, by name and by address")
    process.terminate()
    process.wait()
median = statistics.median(took)
print(f"ready after {median:.0f} ms (median of {len(took)}; {min(took):.0f} to {max(took):.0f})", "under" if median < goal else "over", f"{goal:.0f} ms")
