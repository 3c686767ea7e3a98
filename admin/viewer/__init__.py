"""The documentation that the admin app serves: the OpenAPI document and a page that shows it."""
