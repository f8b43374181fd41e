-- What the service role may do: data, never structure.
GRANT USAGE ON SCHEMA platform, log TO spine_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA platform, log TO spine_service;
