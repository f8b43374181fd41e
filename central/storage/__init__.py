"""The database: connections and roles, migrations, the catalogue, and the writer."""
