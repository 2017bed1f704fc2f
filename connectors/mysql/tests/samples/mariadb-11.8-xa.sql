CREATE TABLE ledger (id INT PRIMARY KEY, note VARCHAR(20));
XA START 'one','branch',7; INSERT INTO ledger VALUES (1,'kept'); XA END 'one','branch',7; XA PREPARE 'one','branch',7; XA COMMIT 'one','branch',7;
XA START 'two'; INSERT INTO ledger VALUES (2,'lost'); XA END 'two'; XA PREPARE 'two'; XA ROLLBACK 'two';
SET gtid_domain_id=5; INSERT INTO ledger VALUES (4,'other domain'); SET gtid_domain_id=0;
SET binlog_alter_two_phase=1; ALTER TABLE ledger ADD COLUMN more INT, ALGORITHM=COPY;
SET SESSION skip_replication=1; INSERT INTO ledger VALUES (5,'skipped',1); SET skip_replication=0;
