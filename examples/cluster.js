// SPDX-License-Identifier: Apache-2.0

// A Node cluster: a primary, its workers, and a detached helper that nobody waits
// for.
//
//     abot-trace supervise -- node examples/cluster.js
//
// Killed with SIGKILL, the primary leaves the helper behind; under supervise
// nothing is left.
'use strict';

const cluster = require('cluster');
const http = require('http');
const { spawn } = require('child_process');

const WORKERS = 3;

if (cluster.isPrimary) {
  for (let i = 0; i < WORKERS; i++) cluster.fork();
  spawn('sleep', ['600'], { detached: true, stdio: 'inherit' }).unref();
} else {
  http
    .createServer((request, response) => response.end(`${process.pid}\n`))
    .listen(0, '127.0.0.1', () => console.log('ready'));
}
