/**
 * What the AppView's own migrator leaves behind. A database that we created carries the same marks, so that an AppView
 * started on it finds nothing to do; a database that it created is adopted when the marks and the tables agree.
 */

/** The release of the AppView whose schema this is. */
export const APPVIEW_RELEASE = '@atproto/bsky 0.0.280'

/** The names its migrator records when it has brought a database to that schema, in its order. */
export const APPVIEW_MIGRATIONS: readonly string[] = [
  '_20230309T045948368Z',
  '_20230408T152211201Z',
  '_20230417T210628672Z',
  '_20230420T211446071Z',
  '_20230427T194702079Z',
  '_20230605T144730094Z',
  '_20230607T211442112Z',
  '_20230608T155101190Z',
  '_20230608T201813132Z',
  '_20230608T205147239Z',
  '_20230609T153623961Z',
  '_20230609T232122649Z',
  '_20230610T203555962Z',
  '_20230611T215300060Z',
  '_20230620T161134972Z',
  '_20230627T212437895Z',
  '_20230629T220835893Z',
  '_20230703T045536691Z',
  '_20230720T164800037Z',
  '_20230807T035309811Z',
  '_20230808T172902639Z',
  '_20230810T203349843Z',
  '_20230817T195936007Z',
  '_20230830T205507322Z',
  '_20230904T211011773Z',
  '_20230906T222220386Z',
  '_20230920T213858047Z',
  '_20230929T192920807Z',
  '_20231003T202833377Z',
  '_20231220T225126090Z',
  '_20240124T023719200Z',
  '_20240226T225725627Z',
  '_20240530T170337073Z',
  '_20240606T171229898Z',
  '_20240606T222548219Z',
  '_20240719T203853939Z',
  '_20240723T220700077Z',
  '_20240723T220703655Z',
  '_20240801T193939827Z',
  '_20240808T224251220Z',
  '_20240829T211238293Z',
  '_20240831T134810923Z',
  '_20241114T153108102Z',
  '_20250116T222618297Z',
  '_20250207T174822012Z',
  '_20250404T163421487Z',
  '_20250526T023712742Z',
  '_20250528T221913281Z',
  '_20250602T190357447Z',
  '_20250611T140649895Z',
  '_20250627T025331240Z',
  '_20250812T183735692Z',
  '_20250813T174955711Z',
  '_20251120T004738098Z',
  '_20260112T133951271Z',
  '_20260604T224952774Z',
  '_20260618T200000000Z',
  '_20260729T223157563Z',
  '_20260819T170000000Z',
  '_20260827T200000000Z',
  '_20260904T130000000Z',
]

/** The two tables its migrator (kysely's) keeps its state in. */
export const migratorTables = `
create table if not exists kysely_migration (
  name varchar(255) primary key,
  "timestamp" varchar(255) not null
);

create table if not exists kysely_migration_lock (
  id varchar(255) primary key,
  is_locked integer not null default 0
);
`
