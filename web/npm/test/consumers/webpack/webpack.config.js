export default { entry: "./src/main.js", output: { path: `${import.meta.dirname}/dist`, filename: "main.js" }, performance: { hints: false } };
