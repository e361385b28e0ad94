// The provider of the kit with what an operator would set up there for the gateway: clients, and claims in id_tokens.
import * as real from 'oidc-provider';
export const errors = real.errors;
export class Provider extends real.Provider {
  constructor(issuer, configuration) {
    const added = JSON.parse(process.env.FHIRWALL_CLIENTS ?? '[]');
    const known = configuration.clients.map(one => ({ ...one, ...added.find(other => other.client_id === one.client_id) }));
    const fresh = added.filter(one => !known.some(other => other.client_id === one.client_id));
    super(issuer, { ...configuration, clients: [...known, ...fresh], conformIdTokenClaims: false });
  }
}
