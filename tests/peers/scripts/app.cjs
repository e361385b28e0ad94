// A server-side SMART app on npm `fhirclient`, unchanged: /launch?iss=… starts, /cb tells what it could read.
const http = require('node:http');
const { createRequire } = require('node:module');
const smart = createRequire(`${process.env.FHIRWALL_PEERS}/`)('fhirclient');

const kept = {};
const storage = () => ({
  get: async key => kept[key],
  set: async (key, value) => (kept[key] = value),
  unset: async key => delete kept[key],
});

// What the library expects of express.
function dress(request, response, url) {
  request.query = Object.fromEntries(url.searchParams);
  request.protocol = 'http';
  request.get = name => request.headers[name.toLowerCase()];
  request.originalUrl = request.url;
  response.redirect = target => response.writeHead(302, { location: target }).end();
  response.status = code => ((response.statusCode = code), response);
}

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  dress(request, response, url);
  const client = smart(request, response, storage);
  const told = error => response.writeHead(500).end(JSON.stringify({ error: String(error) }));
  if (url.pathname === '/launch') {
    client.authorize({
      clientId: process.env.APP_CLIENT_ID,
      scope: process.env.APP_SCOPE,
      redirectUri: '/cb',
      iss: url.searchParams.get('iss'),
      pkceMode: 'required',
    }).catch(told);
  } else if (url.pathname === '/cb') {
    client.ready().then(async ready => {
      const patient = ready.patient.id ? await ready.patient.read() : undefined;
      const found = await ready.request(`Observation?patient=Patient/${ready.patient.id}&_count=3`).catch(String);
      const observations = (found.entry ?? []).map(entry => entry.resource).filter(one => one.resourceType === 'Observation');
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({
        patient: ready.patient.id,
        family: patient?.name?.[0]?.family,
        observations: observations.length,
        scope: ready.getState('tokenResponse.scope'),
        refreshed: ready.getState('tokenResponse.refresh_token') ? (await ready.refresh(), true) : false,
      }));
    }).catch(told);
  } else response.writeHead(404).end();
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
