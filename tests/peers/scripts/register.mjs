// Lets a script that stands elsewhere use the packages in FHIRWALL_PEERS, and registers clients with its provider.
import { register } from 'node:module';
register('./resolve.mjs', import.meta.url);
