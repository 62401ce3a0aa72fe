#!/bin/sh
# Make the role that may read the archive's tables and no more; the board connects as it. It takes no more than its share
# of the connections and of the disk. The image of PostgreSQL runs this once, when it makes its data. It may be run again
# at any time: to add the role or its limits to older data, or after the password was changed. The password is a SCRAM verifier in the file POSTGRES_READER_FILE: the image forgets
# POSTGRES_PASSWORD_FILE before it comes to this.
set -e
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
\set verifier `cat "$POSTGRES_READER_FILE"`
SELECT 'CREATE ROLE marketswarm_reader' WHERE to_regrole('marketswarm_reader') IS NULL \gexec
ALTER ROLE marketswarm_reader LOGIN CONNECTION LIMIT 24 PASSWORD :'verifier';
ALTER ROLE marketswarm_reader SET temp_file_limit = '1GB';
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;
SQL
