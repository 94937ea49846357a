SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  presets: [SwaggerUIBundle.presets.apis],
  validatorUrl: null,
  tryItOutEnabled: true,
});
