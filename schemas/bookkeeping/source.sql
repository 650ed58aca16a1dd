-- One shard set of the bookkeeping ledger. {schema} is a database, {n} the number of the shard set.

CREATE TABLE {schema}.account_{n} (
  id              BIGINT        NOT NULL,
  kind            VARCHAR(16)   NOT NULL COMMENT 'CUSTOMER, MERCHANT, BANK, SUB ..',
  class           VARCHAR(16)   NOT NULL COMMENT 'of the chart: ASSET, LIABILITY, EQUITY, INCOME, EXPENSE',
  subject         VARCHAR(32)   NOT NULL COMMENT '科目',
  nature          CHAR(1)       NOT NULL COMMENT 'D or C: what raises the balance',
  currency        CHAR(3)       NOT NULL,
  master_id       BIGINT        NULL COMMENT 'of a sub-account: the hot account that it is a part of',
  opening_balance DECIMAL(20,4) NOT NULL,
  balance         DECIMAL(20,4) NOT NULL,
  held            DECIMAL(20,4) NOT NULL DEFAULT 0 COMMENT 'what open holds and freezes bind',
  entry_seq       BIGINT        NOT NULL DEFAULT 0,
  created_at      DATETIME(3)   NOT NULL,
  updated_at      TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  KEY idx_master (master_id)
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
  idempotency_key VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  created_at      DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_account_seq (account_id, seq),
  UNIQUE KEY uk_idempotency (idempotency_key),
  KEY idx_voucher (voucher_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='分录';

CREATE TABLE {schema}.voucher_{n} (
  id               BIGINT        NOT NULL,
  debit_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  kind             VARCHAR(16)   NOT NULL COMMENT 'the flow',
  stage            VARCHAR(16)   NOT NULL COMMENT 'the status that it led to',
  document_id      BIGINT        NOT NULL,
  original_id      BIGINT        NULL COMMENT 'the voucher that this one reverses',
  amount           DECIMAL(20,4) NOT NULL,
  currency         CHAR(3)       NOT NULL,
  legs             TINYINT UNSIGNED NOT NULL,
  idempotency_key  VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  memo             VARCHAR(255)  NULL,
  created_at       DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_idempotency (idempotency_key),
  KEY idx_original (original_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='记账凭证';

CREATE TABLE {schema}.posting_{n} (
  id                BIGINT        NOT NULL,
  payer_account_id  BIGINT        NOT NULL COMMENT 'the sharding key',
  buffer_account_id BIGINT        NOT NULL COMMENT 'where the money waits, on the same shard',
  hot_account_id    BIGINT        NOT NULL COMMENT 'the sub-account that is to get it',
  master_account_id BIGINT        NOT NULL,
  amount            DECIMAL(20,4) NOT NULL,
  currency          CHAR(3)       NOT NULL,
  status            VARCHAR(16)   NOT NULL COMMENT 'QUEUED, MERGED, POSTED',
  voucher_id        BIGINT        NOT NULL,
  batch_id          BIGINT        NULL,
  created_at        DATETIME(3)   NOT NULL,
  updated_at        TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  KEY idx_queue (status, hot_account_id),
  KEY idx_batch (batch_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='缓冲记账';

CREATE TABLE {schema}.batch_{n} (
  id                BIGINT        NOT NULL,
  buffer_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  hot_account_id    BIGINT        NOT NULL,
  master_account_id BIGINT        NOT NULL,
  postings          INT           NOT NULL,
  amount            DECIMAL(20,4) NOT NULL,
  currency          CHAR(3)       NOT NULL,
  status            VARCHAR(16)   NOT NULL COMMENT 'MERGED, POSTED',
  voucher_id        BIGINT        NULL,
  created_at        DATETIME(3)   NOT NULL,
  updated_at        TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='汇总入账批次';

CREATE TABLE {schema}.summary_move_{n} (
  id                BIGINT        NOT NULL,
  master_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  batch_id          BIGINT        NOT NULL,
  amount            DECIMAL(20,4) NOT NULL,
  currency          CHAR(3)       NOT NULL,
  created_at        DATETIME(3)   NOT NULL,
  PRIMARY KEY (id),
  UNIQUE KEY uk_batch (batch_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='热点账户汇总';

CREATE TABLE {schema}.transfer_{n} (
  id                  BIGINT        NOT NULL,
  payer_account_id    BIGINT        NOT NULL COMMENT 'the sharding key',
  suspense_account_id BIGINT        NOT NULL COMMENT 'where the money is until it is credited, on the same shard',
  payee_account_id    BIGINT        NOT NULL,
  amount              DECIMAL(20,4) NOT NULL,
  currency            CHAR(3)       NOT NULL,
  status              VARCHAR(16)   NOT NULL COMMENT 'DEBITED, then CREDITED or COMPENSATED',
  debit_voucher_id    BIGINT        NOT NULL,
  last_voucher_id     BIGINT        NOT NULL,
  idempotency_key     VARCHAR(48)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  remark              VARCHAR(64)   NULL,
  created_at          DATETIME(3)   NOT NULL,
  updated_at          TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  UNIQUE KEY uk_idempotency (idempotency_key),
  KEY idx_payee (payee_account_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='转账';

CREATE TABLE {schema}.hold_{n} (
  id                BIGINT        NOT NULL,
  holder_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  payee_account_id  BIGINT        NOT NULL,
  fee_account_id    BIGINT        NOT NULL,
  kind              VARCHAR(16)   NOT NULL COMMENT 'HOLD (of an order) or FREEZE (by a court)',
  amount            DECIMAL(20,4) NOT NULL,
  captured          DECIMAL(20,4) NOT NULL DEFAULT 0,
  released          DECIMAL(20,4) NOT NULL DEFAULT 0,
  currency          CHAR(3)       NOT NULL,
  status            VARCHAR(16)   NOT NULL COMMENT 'OPEN, PART, then CAPTURED or RELEASED',
  last_voucher_id   BIGINT        NULL,
  created_at        DATETIME(3)   NOT NULL,
  updated_at        TIMESTAMP     NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  PRIMARY KEY (id),
  KEY idx_holder (holder_account_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='预授权与冻结';

CREATE TABLE {schema}.charge_{n} (
  id               BIGINT        NOT NULL,
  payer_account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  fee_account_id   BIGINT        NOT NULL,
  amount           DECIMAL(20,4) NOT NULL,
  currency         CHAR(3)       NOT NULL,
  status           VARCHAR(16)   NOT NULL COMMENT 'CHARGED, REVERSED',
  voucher_id       BIGINT        NOT NULL,
  last_voucher_id  BIGINT        NOT NULL,
  created_at       DATETIME(3)   NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='收费';

CREATE TABLE {schema}.snapshot_{n} (
  account_id BIGINT        NOT NULL COMMENT 'the sharding key',
  day        DATE          NOT NULL,
  nature     CHAR(1)       NOT NULL,
  balance    DECIMAL(20,4) NOT NULL,
  currency   CHAR(3)       NOT NULL,
  PRIMARY KEY (account_id, day)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin COMMENT='日终余额';
