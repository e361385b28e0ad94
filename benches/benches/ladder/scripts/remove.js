// nginx's njs: what a site would write to keep Part 2 records back. Entries with the label go, and elements with an inline
// label go from the entries that announce them.
const PART2 = '42CFRPart2';
const INLINE = 'http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label';
const held = [];

function labels(resource) {
  const security = (resource.meta || {}).security || [];
  return security.map((coding) => coding.code);
}

function isProtected(element) {
  return !!element && Array.isArray(element.extension) &&
    element.extension.some((one) => one.url === INLINE && (one.valueCoding || {}).code === PART2);
}

function without(value) {
  if (Array.isArray(value)) return value.filter((item) => !isProtected(item)).map(without);
  if (value === null || typeof value !== 'object') return value;
  const kept = {};
  Object.keys(value).forEach((name) => {
    if (!isProtected(value[name])) kept[name] = without(value[name]);
  });
  return kept;
}

function removed(bundle) {
  delete bundle.total;
  bundle.entry = bundle.entry.filter((entry) => labels(entry.resource).indexOf(PART2) < 0);
  bundle.entry.forEach((entry) => {
    if (labels(entry.resource).indexOf('PROCESSINLINELABEL') >= 0) entry.resource = without(entry.resource);
  });
  return bundle;
}

function head(r) {
  delete r.headersOut['Content-Length'];
}

function body(r, piece, flags) {
  held.push(piece);
  if (flags.last) {
    r.sendBuffer(JSON.stringify(removed(JSON.parse(Buffer.concat(held).toString()))), flags);
    held.length = 0;
  }
}

export default { head, body };
