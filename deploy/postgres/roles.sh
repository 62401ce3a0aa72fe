#!/bin/sh
# Make the three roles that connect to the archive's database, none of which is a superuser: marketswarm, which owns it,
# marketswarm_reader, which may read its tables, and marketswarm_signals, which may add signals. Neither of these two takes
# more than its share of the connections and of the disk. The superuser, postgres, loses its password: it connects by the socket in the container alone.
#
# The image of PostgreSQL runs this once, when it makes its data. It may be run again at any time: to add a role or its
# limits to older data, or after a password was changed. Where marketswarm is the superuser, as older releases made it,
# that role becomes postgres, and a new marketswarm gets what it had: stop archive and board before.
#
# The passwords are SCRAM verifiers in the files POSTGRES_OWNER_FILE, POSTGRES_READER_FILE and POSTGRES_SIGNALS_FILE: the
# image forgets POSTGRES_PASSWORD_FILE before it comes to this.
set -e
sql() {
    psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname="$POSTGRES_DB" --username="$@"
}

# No session can rename its own role, and the first one of a server stays its superuser for ever.
if ! sql postgres --command='SELECT' >/dev/null 2>&1; then
    sql marketswarm <<'SQL'
SELECT 'CREATE ROLE marketswarm_renames SUPERUSER LOGIN' WHERE to_regrole('marketswarm_renames') IS NULL \gexec
SQL
    sql marketswarm_renames --command='ALTER ROLE marketswarm RENAME TO postgres'
fi

sql postgres <<'SQL'
\set owner `cat "$POSTGRES_OWNER_FILE"`
\set reader `cat "$POSTGRES_READER_FILE"`
\set signals `cat "$POSTGRES_SIGNALS_FILE"`
BEGIN;
ALTER ROLE postgres PASSWORD NULL;
SELECT 'DROP ROLE marketswarm_renames' WHERE to_regrole('marketswarm_renames') IS NOT NULL \gexec
SELECT 'CREATE ROLE marketswarm' WHERE to_regrole('marketswarm') IS NULL \gexec
ALTER ROLE marketswarm LOGIN NOSUPERUSER CREATEDB PASSWORD :'owner';
SELECT 'CREATE ROLE marketswarm_reader' WHERE to_regrole('marketswarm_reader') IS NULL \gexec
ALTER ROLE marketswarm_reader LOGIN CONNECTION LIMIT 24 PASSWORD :'reader';
ALTER ROLE marketswarm_reader SET temp_file_limit = '1GB';
SELECT 'CREATE ROLE marketswarm_signals' WHERE to_regrole('marketswarm_signals') IS NULL \gexec
ALTER ROLE marketswarm_signals LOGIN CONNECTION LIMIT 12 PASSWORD :'signals';
ALTER ROLE marketswarm_signals SET temp_file_limit = '1GB';
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE postgres TO marketswarm;
-- the database, and those that `archive restore` made beside it
SELECT format('ALTER DATABASE %I OWNER TO marketswarm', datname) FROM pg_database
WHERE datname LIKE 'marketswarm%' AND datdba = 'postgres'::regrole \gexec
-- what is in it: indexes and partitions' sequences follow their tables
SELECT format('ALTER TABLE %s OWNER TO marketswarm', oid::regclass) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relowner = 'postgres'::regrole \gexec
SELECT format('ALTER DOMAIN %s OWNER TO marketswarm', oid::regtype) FROM pg_type
WHERE typnamespace = 'public'::regnamespace AND typtype = 'd' AND typowner = 'postgres'::regrole \gexec
COMMIT;
SQL

# Nobody makes large objects, which fill the disk: not here, and not in the databases that are made of these.
forbid_large_objects() {
    sql postgres --dbname="$1" <<'SQL'
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure) FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
    AND (left(proname, 3) = 'lo_' OR proname IN ('lowrite', 'pg_logical_emit_message')) \gexec
SQL
}
forbid_large_objects "$POSTGRES_DB"
forbid_large_objects template1
sql postgres --command='ALTER DATABASE template0 ALLOW_CONNECTIONS true'
forbid_large_objects template0
sql postgres --command='ALTER DATABASE template0 ALLOW_CONNECTIONS false'
