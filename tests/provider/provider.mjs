// A real OpenID provider for the tests: oidc-provider with two clients and anybody as a person.
//
// Says its issuer on a line. `GET /test/open?redirect=URL` registers the clients; `GET
// /test/mode?mode=MODE` makes it misbehave: `other` hands out tokens that are for the other client.
import { createServer } from 'node:http';

const { Provider } = await import(`${process.env.PROVIDER_MODULES}/oidc-provider/lib/index.js`);

// Only the first line is read.
process.stdout.on('error', () => {});

let mode = '';
let handle = (_, response) => response.writeHead(503).end();

function open(issuer, redirect) {
  const client = (id) => ({
    client_id: id,
    client_secret: process.env.PROVIDER_SECRET,
    redirect_uris: [redirect],
    grant_types: ['authorization_code'],
    response_types: ['code'],
  });
  const provider = new Provider(issuer, {
    clients: [client('journeyman'), client('other')],
    cookies: { keys: ['only for tests'] },
    claims: { openid: ['sub'], profile: ['preferred_username', 'groups'], email: ['email'] },
    // As strict as the specification: a person's claims are in the token only where nothing else is.
    conformIdTokenClaims: true,
    // Whoever says a name is that person; a name may change hands, a subject does not.
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        preferred_username: id.split('-')[0],
        groups: id.startsWith('op') ? ['staff', 'operators'] : ['staff'],
      }),
    }),
    // Nobody is asked what the client may know.
    loadExistingGrant: async (ctx) => {
      const grant = new provider.Grant({
        clientId: ctx.oidc.client.clientId,
        accountId: ctx.oidc.session.accountId,
      });
      grant.addOIDCScope('openid profile email');
      await grant.save();
      return grant;
    },
  });
  provider.use(async (ctx, next) => {
    await next();
    if (mode === 'other' && ctx.oidc?.route === 'token' && ctx.body?.id_token) {
      const claims = JSON.parse(Buffer.from(ctx.body.id_token.split('.')[1], 'base64url'));
      const token = new provider.IdToken({ sub: claims.sub }, { ctx, client: await provider.Client.find('other') });
      token.scope = 'openid';
      token.mask = {};
      token.rejected = [];
      token.set('nonce', claims.nonce);
      ctx.body = { ...ctx.body, id_token: await token.issue({ use: 'idtoken' }) };
    }
  });
  return provider.callback();
}

const server = createServer((request, response) => {
  const url = new URL(request.url, 'http://127.0.0.1');
  if (url.pathname === '/test/open') {
    handle = open(`http://127.0.0.1:${server.address().port}`, url.searchParams.get('redirect'));
    response.end();
  } else if (url.pathname === '/test/mode') {
    mode = url.searchParams.get('mode');
    response.end();
  } else {
    handle(request, response);
  }
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));
