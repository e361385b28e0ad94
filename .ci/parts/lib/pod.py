"""The sidecar's pod as processes: what the chart renders is done as a kubelet does it, as far as one machine without a cluster can.

The manifest says which files are mounted where and with what mode, as which user the gateway runs on a read-only root, which
commands probe it and how often, what starts before what, and how long an end may take. The rest of the world (issuer, EHR, an
app with certificate and token) is `fhirwall demo`; the FHIR server of the pod is a plain relay to that EHR on loopback.
"""

import ctypes, http.server, json, os, pathlib, re, shutil, signal, socket, ssl, subprocess, sys, threading, time, urllib.request

import yaml

binary, helm, chart, out = sys.argv[1:]
out = pathlib.Path(out)
root, site = out / "pod", out / "site"
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 1, 32, 4096, 16384, 1 << 18
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
PUBLIC = 8443


def call(result, what):
    if result != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, flags):
    call(LIBC.mount(os.fsencode(source), os.fsencode(target), None, flags, None), f"mount {target}")


def say(what, holds=True):
    print(("  ✓ " if holds else "  ✗ ") + what, flush=True)
    if not holds:
        sys.exit(1)


def world():
    """`fhirwall demo`, kept away from the ports that the pod will take."""
    kept = [socket.create_server(("127.0.0.1", port)) for port in (PUBLIC, 8444, 9901, 8080)]
    process = subprocess.Popen([binary, "demo", "--listen", "127.0.0.1:28443", "--dir", site], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: (site / "demo.json").exists() or process.poll() is not None, 60, "the demo serves")
    for one in kept:
        one.close()
    return process


def until(holds, seconds, what):
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > seconds:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - begun


def configuration():
    """The demo's, as a pod has it: one listener, the server beside it, the mounted paths."""
    config = yaml.safe_load((site / "fhirwall.yaml").read_text())
    tls = "/etc/fhirwall/tls/"
    served = {"certificate_file": tls + "server.pem", "key_file": tls + "server.key", "client_auth": "required",
              "client_ca_file": tls + "partners-ca.pem", "crl_files": [tls + "partners.crl"]}
    config["listeners"] = [{"address": f"0.0.0.0:{PUBLIC}", "serves": ["fhir"], "tls": served}]
    config["admin"] = {"address": "127.0.0.1:9901"}
    config["keys"] = {"seal_files": ["/etc/fhirwall/keys/seal.key"], "audit_signing_file": "/etc/fhirwall/keys/audit.pem"}
    config["endpoints"][0]["upstream"] = {"urls": ["http://127.0.0.1:8080/fhir"], "auth": {"kind": "none"}}
    config["issuers"][0]["ca_file"] = tls + "idp-ca.pem"
    config |= {"policies": {"dir": "/etc/fhirwall/policies"}, "partners": {"dir": "/etc/fhirwall/partners"},
               "audit": {"dir": "/var/lib/fhirwall/audit"}, "state": {"dir": "/var/lib/fhirwall/state"},
               "shutdown": {"linger": "1s", "drain": "20s"}}
    file = out / "pod.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def rendered(config):
    """What helm makes of the chart, by kind and name."""
    command = [helm, "template", "try", chart, "--kube-version", "1.34.0", "--set", "mode=sidecar", "--set", "replicas=1",
               "--set", "sidecar.image=relay", "--set", "sidecar.readinessPath=/fhir/metadata", "--set-file", f"config={config}"]
    for folder in ("partners", "policies"):
        for file in sorted((site / folder).iterdir()):
            command += ["--set-file", f"{folder}.{file.name.replace('.', chr(92) + '.')}={file}"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def secrets():
    """What the operator puts in the two secrets."""
    tls = site / "tls"
    return {
        "fhirwall-tls": {"server.pem": tls / "site/gateway.pem", "server.key": tls / "site/gateway.key", "idp-ca.pem": tls / "site/ca.pem",
                         "partners-ca.pem": tls / "partners/ca.pem", "partners.crl": tls / "partners/ca.crl"},
        "fhirwall-keys": {"seal.key": site / "keys/seal.key", "audit.pem": site / "keys/audit.pem"},
    }


def project(place, files, mode, group):
    """Files as a kubelet projects them: a dated folder behind the link `..data`, swapped at once."""
    folder = place / f"..{time.time_ns()}"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        os.chown(folder / name, 0, group)
        (folder / name).chmod(mode)
        if not (place / name).is_symlink():
            (place / name).symlink_to(f"..data/{name}")
    old = (place / "..data").resolve() if (place / "..data").is_symlink() else None
    (place / "..new").symlink_to(folder.name)
    (place / "..new").rename(place / "..data")
    if old:
        shutil.rmtree(old)


def lay_out(manifest, pod, container):
    """The container's root: the image's one file, and the volumes where they are mounted."""
    group = pod["securityContext"]["fsGroup"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    places = {}
    root.mkdir()
    shutil.copy(binary, root / "fhirwall")
    (root / "dev").mkdir()
    for name, minor in (("null", 3), ("random", 8), ("urandom", 9)):
        os.mknod(root / "dev" / name, 0o020666, os.makedev(1, minor))
        (root / "dev" / name).chmod(0o666)
    for one in container["volumeMounts"]:
        place = out / "volumes" / one["name"]
        place.mkdir(parents=True)
        inside = root / one["mountPath"].lstrip("/")
        inside.mkdir(parents=True)
        volume = volumes.get(one["name"], {})
        if "configMap" in volume:
            data = manifest["ConfigMap", volume["configMap"]["name"]]["data"]
            project(place, {name: text.encode() for name, text in data.items()}, 0o644, group)
        elif "secret" in volume:
            files = secrets()[volume["secret"]["secretName"]]
            project(place, {name: file.read_bytes() for name, file in files.items()}, volume["secret"]["defaultMode"], group)
        else:
            os.chown(place, 0, group)
            place.chmod(0o2775)
        places[one["name"]] = place
    call(LIBC.unshare(CLONE_NEWNS), "a mount namespace of its own")
    mount("none", "/", MS_REC | MS_PRIVATE)
    mount(root, root, MS_BIND)
    for one in container["volumeMounts"]:
        inside = root / one["mountPath"].lstrip("/")
        mount(places[one["name"]], inside, MS_BIND)
        if one.get("readOnly"):
            mount("none", inside, MS_REMOUNT | MS_BIND | MS_RDONLY)
    if container["securityContext"]["readOnlyRootFilesystem"]:
        mount("none", root, MS_REMOUNT | MS_BIND | MS_RDONLY)
    return places


def contained(pod, context):
    """Turns a process into one of the container, as its security context says."""
    def turn():
        os.chroot(root)
        os.chdir("/")
        if context["capabilities"]["drop"] == ["ALL"]:
            for capability in range(64):
                LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([pod["securityContext"]["fsGroup"]])
        os.setgid(context["runAsGroup"])
        os.setuid(context["runAsUser"])
        if not context["allowPrivilegeEscalation"]:
            LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return turn


class Relay(http.server.BaseHTTPRequestHandler):
    """The FHIR server of the pod: it listens on loopback and has the demo's records. `slow` answers wait for a word."""
    protocol_version = "HTTP/1.1"
    ehr = context = None
    hold, held = threading.Event(), threading.Event()

    def do_GET(self):
        if "slow" in self.headers.get("x-request-id", "") or Relay.hold.is_set():
            Relay.held.set()
            time.sleep(3)
        request = urllib.request.Request(Relay.ehr + self.path.removeprefix("/fhir"), headers={"Accept": "application/fhir+json"})
        try:
            answer = urllib.request.urlopen(request, context=Relay.context)
        except urllib.error.HTTPError as error:
            answer = error
        body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def fhir_server(demo, probe):
    Relay.ehr, Relay.context = demo["ehr_url"], ssl.create_default_context(cafile=demo["ca"])
    Relay.context.load_cert_chain(site / "tls/site/gateway-client.pem", site / "tls/site/gateway-client.key")
    server = http.server.ThreadingHTTPServer((probe["host"], probe["port"]), Relay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main():
    demo = world()
    try:
        pod_life(json.loads((site / "demo.json").read_text()))
    finally:
        demo.terminate()
        demo.wait()


def pod_life(demo):
    manifest = rendered(configuration())
    pod = manifest["StatefulSet", "try-fhirwall"]["spec"]["template"]["spec"]
    [container], [server] = pod["initContainers"], pod["containers"]
    say("the gateway is a native sidecar: an init container that stays", container["restartPolicy"] == "Always")
    say("it is the pod's only port", container["ports"][0]["containerPort"] == PUBLIC and "ports" not in server)
    places = lay_out(manifest, pod, container)
    turn = contained(pod, container["securityContext"])

    def probe(kind):
        spec = container[kind]
        done = subprocess.run(spec["exec"]["command"], preexec_fn=turn, capture_output=True, timeout=spec["timeoutSeconds"])
        return done.returncode == 0

    def get(path, token=True, request=""):
        command = ["curl", "-s", "-o", out / f"answer{request}", "-w", "%{http_code}", "--cacert", demo["ca"], "--connect-to", f"::127.0.0.1:{PUBLIC}",
                   "--cert", app["client_certificate"], "--key", app["key"]]
        command += ["-H", f"Authorization: Bearer {app['token']}"] if token else []
        return subprocess.Popen([*command, demo["base_url"] + path], stdout=subprocess.PIPE, text=True)

    def status(path, **how):
        return get(path, **how).communicate()[0]

    [app] = [one for one in demo["apps"] if one["client_id"] == "recovery-path"]
    say("not started: the startup probe fails", not probe("startupProbe"))
    log = open(out / "gateway.log", "wb")
    gateway = subprocess.Popen(["/fhirwall", *container["args"]], preexec_fn=turn, stdout=log, stderr=log)
    try:
        startup = container["startupProbe"]
        until(lambda: probe("startupProbe") or gateway.poll() is not None, startup["periodSeconds"] * startup["failureThreshold"], "started")
        if gateway.poll() is not None:
            sys.exit((out / "gateway.log").read_text())
        say("the startup probe succeeds before the FHIR server is there: it may start now")
        owner = os.stat(f"/proc/{gateway.pid}")
        limits = pathlib.Path(f"/proc/{gateway.pid}/status").read_text()
        say("it runs as 65532, without capabilities or new privileges", owner.st_uid == owner.st_gid == 65532
            and re.search(r"CapBnd:\s+0+$", limits, re.M) and re.search(r"NoNewPrivs:\s+1", limits))
        say("nothing of the record is served while the FHIR server is away", status("/Patient/amara-osei") in ("502", "503", "504"))
        ready = server["readinessProbe"]["httpGet"]
        relay = fhir_server(demo, ready)
        answer = urllib.request.urlopen(f"http://{ready['host']}:{ready['port']}{ready['path']}")
        say("the FHIR server's readiness path answers", answer.status == 200)
        until(lambda: probe("readinessProbe"), 30, "ready")
        say("the readiness probe succeeds; so does the liveness probe", probe("livenessProbe"))
        until(lambda: status("/Patient/amara-osei") == "200", 10, "a read through the pod's port")
        say("an app reads through the pod's port, with certificate and token")
        say("without a token it does not", status("/Patient/amara-osei", token=False) == "401")
        written = [file for file in (out / "volumes/audit/audit").iterdir() if file.name.startswith("audit-")]
        say("the record stands in the claimed volume", bool(written) and written[0].stat().st_uid == 65532)

        partners = manifest["ConfigMap", "try-fhirwall-partners"]["data"]
        suspended = {name: text.encode() for name, text in partners.items()}
        suspended["recovery-path.yaml"] = suspended["recovery-path.yaml"].replace(b"status: active", b"status: suspended")
        project(places["partners"], suspended, 0o644, 65532)
        took = until(lambda: status("/Patient/amara-osei") != "200", 10, "the changed ConfigMap is in force")
        say("a ConfigMap swapped by the kubelet is in force without a restart: the partner is suspended")
        project(places["partners"], {name: text.encode() for name, text in partners.items()}, 0o644, 65532)
        until(lambda: status("/Patient/amara-osei") == "200", 10, "the ConfigMap as it was")
        say("and back")

        Relay.hold.set()
        open_request = get("/Patient/amara-osei", request="-open")
        say("a request is under way", Relay.held.wait(5))
        gateway.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        until(lambda: not probe("readinessProbe"), 5, "not ready at SIGTERM")
        say("at SIGTERM the readiness probe fails at once")
        say("the request under way is answered", open_request.communicate()[0] == "200" and b"amara-osei" in (out / "answer-open").read_bytes())
        code = gateway.wait(pod["terminationGracePeriodSeconds"])
        say(f"it ends by itself with {code}, within the {pod['terminationGracePeriodSeconds']} s that the pod has", code == 0)
        relay.shutdown()
        check = [binary, "audit", "verify", "--dir", out / "volumes/audit/audit"]
        done = subprocess.run(check, capture_output=True, text=True)
        say("the chain in the volume is whole: " + done.stdout.splitlines()[0], done.returncode == 0)
        say(f"no key, token or patient in what it logged", not re.search(r"amara|eyJ|PRIVATE", (out / "gateway.log").read_text()))
    finally:
        if gateway.poll() is None:
            gateway.kill()


main()
