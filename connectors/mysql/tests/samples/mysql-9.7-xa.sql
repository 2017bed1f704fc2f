CREATE TABLE ledger (id INT PRIMARY KEY, note VARCHAR(20));
XA START 'one','branch',7; INSERT INTO ledger VALUES (1,'kept'); XA END 'one','branch',7; XA PREPARE 'one','branch',7;
XA COMMIT 'one','branch',7;
XA START 'two'; INSERT INTO ledger VALUES (2,'lost'); XA END 'two'; XA PREPARE 'two'; XA ROLLBACK 'two';
XA START 'three'; INSERT INTO ledger VALUES (3,'at once'); XA END 'three'; XA COMMIT 'three' ONE PHASE;
