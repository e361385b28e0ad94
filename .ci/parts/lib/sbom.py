"""Leaves in a CycloneDX document what the binary is linked from, and adds the licences that the packages state."""
import json, subprocess, sys

path = sys.argv[1]
bom = json.load(open(path))
run = lambda *words: subprocess.run(words, check=True, capture_output=True, text=True).stdout
tree = run("cargo", "tree", "--locked", "-p", "fhirwall", "-e", "normal", "--prefix", "none", "--format", "{p}")
linked = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
linked = {(name, version.removeprefix("v")) for name, version in linked}
packages = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1"))["packages"]
licence = {(one["name"], one["version"]): one["license"] for one in packages}
kept = []
for part in bom["components"]:
    key = (part["name"], part["version"])
    if key in linked:
        part.pop("evidence", None)
        part.pop("properties", None)
        if licence.get(key):
            part["licenses"] = [{"expression": licence[key].replace("/", " OR ")}]
        kept.append(part)
names = {part["bom-ref"] for part in kept}
bom["components"] = kept
bom["dependencies"] = [
    {**one, "dependsOn": [name for name in one.get("dependsOn", []) if name in names]}
    for one in bom.get("dependencies", []) if one["ref"] in names
]
for extra in ("annotations", "services"):
    bom.pop(extra, None)
missing = sorted(name for name, version in linked - {(part["name"], part["version"]) for part in kept})
unstated = sorted(part["name"] for part in kept if "licenses" not in part)
unhashed = [part["name"] for part in kept if not part.get("hashes")]
json.dump(bom, open(path, "w"), indent=1)
print(f'SBOM: {bom["bomFormat"]} {bom["specVersion"]}, {len(kept)} packages; without a licence: {unstated}; without a digest: {unhashed}; not in it: {missing}')
assert len(kept) > 200 and not missing
