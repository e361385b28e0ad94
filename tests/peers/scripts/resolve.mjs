// Bare imports come from FHIRWALL_PEERS; `oidc-provider` comes by way of `provider.mjs`.
import { pathToFileURL } from 'node:url';
const packages = pathToFileURL(`${process.env.FHIRWALL_PEERS}/x.mjs`).href;
const provider = new URL('./provider.mjs', import.meta.url).href;
export function resolve(specifier, context, next) {
  if (specifier === 'oidc-provider' && context.parentURL !== provider) return { url: provider, shortCircuit: true };
  const bare = !/^[./]/.test(specifier) && !specifier.includes(':');
  const ours = !(context.parentURL ?? '').includes('/node_modules/');
  return next(specifier, bare && ours ? { ...context, parentURL: packages } : context);
}
