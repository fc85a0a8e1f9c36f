const path = require('path');
const Koa = require('koa');
const route = require('koa-route');
const serve = require('koa-static');

const app = new Koa();

app.use(async (context, next) => {
  const start = Date.now();
  await next();
  console.log(`${context.method} ${context.url} ${context.status} ${Date.now() - start} ms`);
});
app.use(route.get('/', context => {
  context.body = 'Hello from koa-demo\n';
}));
app.use(route.get('/version', context => {
  context.body = { node: process.version, platform: process.platform };
}));
app.use(serve(path.join(__dirname, 'public')));

const server = app.listen(3000, () => console.log('listening on port 3000'));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
