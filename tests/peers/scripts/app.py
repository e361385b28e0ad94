"""A SMART app on PyPI `fhirclient`, unchanged: prints where to sign in, reads where the browser came back to, prints what
it could read."""
import json
import sys

from fhirclient import client
from fhirclient.models.observation import Observation

base, client_id, redirect_uri, scope = sys.argv[1:5]
app = client.FHIRClient(
    settings={"app_id": client_id, "api_base": base, "redirect_uri": redirect_uri, "scope": scope}
)
print(app.authorize_url, flush=True)
app.handle_callback(sys.stdin.readline().strip())
found = Observation.where({"patient": "Patient/" + app.patient_id}).perform_resources(app.server)
told = {
    "ready": app.ready,
    "patient": app.patient_id,
    "family": app.patient.name[0].family,
    "observations": len([one for one in found if one.resource_type == "Observation"]),
    "refreshed": app.server.auth.refresh_token is not None and bool(app.reauthorize()),
}
print(json.dumps(told), flush=True)
