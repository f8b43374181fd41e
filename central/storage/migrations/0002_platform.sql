-- What the platform knows of projects and their gateways. Every table has the project's id and is
-- under FORCE row-level security: a transaction that names neither a project (spine.project_id) nor
-- the platform (spine.platform = on) sees nothing.
CREATE SCHEMA platform;

CREATE FUNCTION platform.sees(row_project_id int4) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN current_setting('spine.platform', true) = 'on'
OR row_project_id = nullif(current_setting('spine.project_id', true), '')::int4;

CREATE TABLE platform.projects (
    project_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text NOT NULL UNIQUE CHECK (slug ~ '^[a-z][a-z0-9_]{0,39}$'),
    name text NOT NULL,
    dsn text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE platform.sites (
    site_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id int4 NOT NULL REFERENCES platform.projects,
    name text NOT NULL,
    time_zone text NOT NULL DEFAULT 'UTC',
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, name)
);

CREATE TABLE platform.gateways (
    gateway_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id int4 NOT NULL REFERENCES platform.projects,
    site_id int4 NOT NULL REFERENCES platform.sites,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    last_seen_at timestamptz,
    software text,
    UNIQUE (project_id, name)
);

CREATE TABLE platform.certificates (
    fingerprint bytea PRIMARY KEY CHECK (octet_length(fingerprint) = 32),
    project_id int4 NOT NULL REFERENCES platform.projects,
    gateway_id int4 NOT NULL REFERENCES platform.gateways,
    spki_sha256 bytea NOT NULL,
    not_after timestamptz NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX certificates_gateway ON platform.certificates (gateway_id);

CREATE TABLE platform.enrolment_codes (
    code_hash bytea PRIMARY KEY,
    project_id int4 NOT NULL REFERENCES platform.projects,
    gateway_id int4 NOT NULL REFERENCES platform.gateways,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE TABLE platform.points (
    point_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id int4 NOT NULL REFERENCES platform.projects,
    gateway_id int4 NOT NULL REFERENCES platform.gateways,
    key text COLLATE "C" NOT NULL,
    unit text NOT NULL,
    type text NOT NULL,
    class text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (project_id, key)
);

CREATE TABLE platform.point_sets (
    project_id int4 NOT NULL REFERENCES platform.projects,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    point_ids int4 [] NOT NULL,
    gateway_id int4 NOT NULL REFERENCES platform.gateways,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, hash)
);

CREATE TABLE platform.api_keys (
    key_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id int4 NOT NULL REFERENCES platform.projects,
    name text NOT NULL,
    prefix text NOT NULL UNIQUE,
    secret_hash bytea NOT NULL,
    scopes text [] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE platform.logins (
    token_hash bytea PRIMARY KEY,
    project_id int4 NOT NULL REFERENCES platform.projects,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE TABLE platform.sessions (
    session_hash bytea PRIMARY KEY,
    project_id int4 NOT NULL REFERENCES platform.projects,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

DO $$
DECLARE
    found name;
BEGIN
    FOR found IN SELECT tablename FROM pg_tables WHERE schemaname = 'platform' LOOP
        EXECUTE format('ALTER TABLE platform.%I ENABLE ROW LEVEL SECURITY', found);
        EXECUTE format('ALTER TABLE platform.%I FORCE ROW LEVEL SECURITY', found);
        EXECUTE format(
            'CREATE POLICY of_project ON platform.%I USING (platform.sees(project_id))', found
        );
    END LOOP;
END
$$;
