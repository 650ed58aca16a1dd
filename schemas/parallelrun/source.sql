-- One shard set of the old system. {schema} is a database, {n} the number of the shard set, the same in the name of all
-- its tables. Orders and top-ups are of the first generation: cents, codes, composite columns. The ledger is newer.

CREATE TABLE {schema}.account_{n} (
  id              BIGINT        NOT NULL,
  currency        CHAR(3)       NOT NULL,
  opening_balance DECIMAL(20,4) NOT NULL,
  balance         DECIMAL(20,4) NOT NULL,
  entry_seq       BIGINT        NOT NULL DEFAULT 0,
  name            VARCHAR(64)   NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='账户';

CREATE TABLE {schema}.entry_{n} (
  id              BIGINT        NOT NULL,
  account_id      BIGINT        NOT NULL COMMENT 'the sharding key',
  seq             BIGINT        NOT NULL COMMENT '1, 2, 3 .. within the account',
  voucher_id      BIGINT        NOT NULL,
  direction       CHAR(1)       NOT NULL COMMENT 'D or C',
  amount          DECIMAL(20,4) NOT NULL,
  currency        CHAR(3)       NOT NULL,
  balance_before  DECIMAL(20,4) NOT NULL,
  balance_after   DECIMAL(20,4) NOT NULL,
  created_at      DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_account_seq (account_id, seq)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='分录';

CREATE TABLE {schema}.voucher_{n} (
  id               BIGINT        NOT NULL,
  debit_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  kind             VARCHAR(16)   NOT NULL COMMENT 'ORDER, TOPUP or TRANSFER',
  amount           DECIMAL(20,4) NOT NULL,
  currency         CHAR(3)       NOT NULL,
  created_at       DATETIME(3)   NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='记账凭证';

CREATE TABLE {schema}.pay_order_{n} (
  order_no     BIGINT       NOT NULL,
  user_id      BIGINT       NOT NULL COMMENT 'who pays: the sharding key',
  merchant_id  BIGINT       NOT NULL,
  amount_cents BIGINT       NOT NULL,
  state        TINYINT      NOT NULL COMMENT '0 begun, 1 paid, 2 closed',
  channel_no   VARCHAR(40)  NULL COMMENT 'BANK-NUMBER',
  ccy          CHAR(3)      NOT NULL,
  voucher_no   BIGINT       NOT NULL,
  note         VARCHAR(255) NOT NULL,
  pay_time     DATETIME(3)  NOT NULL,
  legacy_flag  INT          NOT NULL DEFAULT 0 COMMENT 'nobody knows',
  PRIMARY KEY (order_no),
  KEY idx_user (user_id, pay_time)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='支付订单';

CREATE TABLE {schema}.topup_{n} (
  topup_no   BIGINT       NOT NULL,
  uid        BIGINT       NOT NULL COMMENT 'whose account it fills: the sharding key',
  from_id    BIGINT       NOT NULL,
  cents      BIGINT       NOT NULL,
  done       CHAR(1)      NOT NULL COMMENT 'Y or N',
  bank_code  VARCHAR(8)   NULL,
  bank_ref   VARCHAR(32)  NULL,
  currency   CHAR(3)      NOT NULL,
  voucher_no BIGINT       NOT NULL,
  topup_time DATETIME(3)  NOT NULL,
  PRIMARY KEY (topup_no),
  KEY idx_uid (uid)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='充值';
