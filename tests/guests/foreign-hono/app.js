// Hono as its users write it: nothing here knows of the server that runs it.

import { Hono } from 'hono';

const app = new Hono();

app.get('/', (c) => c.text('hello from foreign_hono'));
app.get('/hello/:name', (c) => c.text(`hello ${c.req.param('name')}`));
app.get('*', (c) => c.text(`foreign_hono at ${c.req.path}`));

addEventListener('fetch', (event) => event.respondWith(app.fetch(event.request)));
