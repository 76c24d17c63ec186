'use strict';
// gocd-api (npm), which build monitors use: runs from the feeds and the history, states from cctray.

const assert = require('assert');
const path = require('path');
const gocd = require(path.join(process.env.CLIENT_MODULES, 'gocd-api'));

const url = process.env.CLIENT_URL;
const access = { user: process.env.CLIENT_USER, password: process.env.CLIENT_PASSWORD };

async function main() {
  // It adds `/go` itself.
  const root = url.slice(0, -'/go'.length);
  const instance = await gocd.getInstance({ url: root, pipeline: ['shop'], ...access });
  const data = await instance.readData('shop');
  const runs = data.history.pipelineRuns;
  const counters = Object.keys(runs);
  assert.deepStrictEqual(counters, ['1'], JSON.stringify(data));
  const run = runs['1'];
  assert.strictEqual(run.name, 'shop');
  const built = run.stages.find((stage) => stage.name === 'build');
  assert.strictEqual(built.result, 'Passed', JSON.stringify(built));
  // The other stages wait for a person.
  assert.strictEqual(run.summary.stageNotSuccessful, 'check', JSON.stringify(run.summary));
  assert.strictEqual(run.summary.author.name, 'Ann Example', JSON.stringify(run.summary));
  assert.strictEqual(run.summary.changeInfo.comment, 'Write ci.gocd.yaml');

  const cctray = gocd.getCcTrayInstance({ ccTrayUrl: `${url}/cctray.xml`, ...access });
  const { activity } = await cctray.readActivity('shop');
  const build = activity.stages.find((stage) => stage.name === 'build');
  assert.strictEqual(build.lastBuildStatus, 'Success', JSON.stringify(activity));
  assert.strictEqual(build.activity, 'Sleeping');
  console.log('gocd-api: all as it should be');
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  }
);
