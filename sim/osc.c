/* One 20 Hz control step of LIBERO's arm in native code: operational space control of position and orientation,
 * uncoupled, with a null space task, at every physics step. Same law as sim/osc.py, other rounding. */
#include <math.h>
#include <mujoco/mujoco.h>
#include <string.h>

enum { JOINTS = 7, TASK = 6, FINGERS = 2 };

/* Filled by sim/native.py from two flat arrays: keep the order of the fields. */
typedef struct {
  int qpos[JOINTS], qvel[JOINTS], torques[JOINTS], fingers[FINGERS], site, substeps;
} Indices;

typedef struct {
  double kp[TASK], kd[TASK], scale[TASK], torque_low[JOINTS], torque_high[JOINTS], initial_joints[JOINTS];
  double finger_bias[FINGERS], finger_weight[FINGERS];
} Constants;

typedef struct {
  double goal_position[3], goal_rotation[9], gripper[FINGERS];
} Controller;

static const double FINGER_DIRECTION[FINGERS] = {-1.0, 1.0};
static const double FINGER_RATE = 0.01;
static const double NULL_SPACE_STIFFNESS = 10.0;
static const double SMALLEST_PIVOT = 1e-14;

static double clip(double value, double low, double high) {
  return value < low ? low : value > high ? high : value;
}

/* In-place Cholesky factor (lower) of a symmetric positive definite matrix. */
static void factor(double *a, int n) {
  for (int j = 0; j < n; j++) {
    double pivot = a[j * n + j];
    for (int k = 0; k < j; k++) pivot -= a[j * n + k] * a[j * n + k];
    pivot = sqrt(pivot > SMALLEST_PIVOT ? pivot : SMALLEST_PIVOT);
    a[j * n + j] = pivot;
    for (int i = j + 1; i < n; i++) {
      double sum = a[i * n + j];
      for (int k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = sum / pivot;
    }
  }
}

static void solve(const double *lower, double *b, int n) {
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < i; k++) b[i] -= lower[i * n + k] * b[k];
    b[i] /= lower[i * n + i];
  }
  for (int i = n - 1; i >= 0; i--) {
    for (int k = i + 1; k < n; k++) b[i] -= lower[k * n + i] * b[k];
    b[i] /= lower[i * n + i];
  }
}

/* Rotation matrix of an axis-angle vector, rounded to single precision where robosuite rounds. */
static void rotation_of(const double *v, double *r) {
  double angle = sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
  float q[4] = {(float)cos(angle / 2), 0, 0, 0}, p[4][4];
  for (int i = 0; i < 3; i++) q[i + 1] = (float)(v[i] / angle * sin(angle / 2));
  float scale = (float)sqrt(2.0 / (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]));
  for (int i = 0; i < 4; i++) q[i] *= scale;
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) p[i][j] = q[i] * q[j];
  r[0] = 1.0 - p[2][2] - p[3][3], r[1] = p[1][2] - p[3][0], r[2] = p[1][3] + p[2][0];
  r[3] = p[1][2] + p[3][0], r[4] = 1.0 - p[1][1] - p[3][3], r[5] = p[2][3] - p[1][0];
  r[6] = p[1][3] - p[2][0], r[7] = p[2][3] + p[1][0], r[8] = 1.0 - p[1][1] - p[2][2];
}

static void set_goal(const mjData *d, const Indices *at, const Constants *c, Controller *state, const double *action) {
  const double *position = d->site_xpos + 3 * at->site, *rotation = d->site_xmat + 9 * at->site;
  double delta[TASK];
  for (int k = 0; k < TASK; k++) delta[k] = clip(action[k], -1, 1) * c->scale[k];
  for (int k = 0; k < 3; k++) state->goal_position[k] = position[k] + delta[k];
  if (delta[3] != 0 || delta[4] != 0 || delta[5] != 0) {
    double turn[9];
    rotation_of(delta + 3, turn);
    mju_mulMatMat(state->goal_rotation, turn, rotation, 3, 3, 3);
  }
}

/* Desired acceleration of the hand: proportional to the error of the pose, damped by its velocity. */
static void desired_acceleration(const mjData *d, const Indices *at, const Constants *c, const Controller *state,
                                 double jacobian[TASK][JOINTS], double *out) {
  const double *position = d->site_xpos + 3 * at->site, *rotation = d->site_xmat + 9 * at->site;
  double error[TASK] = {0}, velocity[TASK] = {0};
  for (int k = 0; k < 3; k++) error[k] = state->goal_position[k] - position[k];
  for (int column = 0; column < 3; column++) {
    double now[3], goal[3], cross[3];
    for (int k = 0; k < 3; k++) now[k] = rotation[3 * k + column], goal[k] = state->goal_rotation[3 * k + column];
    mju_cross(cross, now, goal);
    for (int k = 0; k < 3; k++) error[3 + k] += 0.5 * cross[k];
  }
  for (int k = 0; k < TASK; k++)
    for (int j = 0; j < JOINTS; j++) velocity[k] += jacobian[k][j] * d->qvel[at->qvel[j]];
  for (int k = 0; k < TASK; k++) out[k] = error[k] * c->kp[k] - velocity[k] * c->kd[k];
}

/* Writes the motor torques. `work` holds 6 nv + nv^2 numbers. */
static void control_arm(const mjModel *m, mjData *d, const Indices *at, const Constants *c, const Controller *state,
                        double *work) {
  int nv = m->nv;
  double *full_jacobian = work, *full_mass = work + TASK * nv;
  mj_jacSite(m, d, full_jacobian, full_jacobian + 3 * nv, at->site);
  mj_fullM(m, full_mass, d->qM);

  double jacobian[TASK][JOINTS], mass[JOINTS * JOINTS], lower[JOINTS * JOINTS], posture[JOINTS];
  for (int k = 0; k < TASK; k++)
    for (int j = 0; j < JOINTS; j++) jacobian[k][j] = full_jacobian[k * nv + at->qvel[j]];
  for (int i = 0; i < JOINTS; i++)
    for (int j = 0; j < JOINTS; j++) mass[i * JOINTS + j] = full_mass[at->qvel[i] * nv + at->qvel[j]];
  memcpy(lower, mass, sizeof lower);
  factor(lower, JOINTS);

  for (int i = 0; i < JOINTS; i++) posture[i] = 0;
  for (int j = 0; j < JOINTS; j++) {
    double pull = NULL_SPACE_STIFFNESS * (c->initial_joints[j] - d->qpos[at->qpos[j]]) -
                  2 * sqrt(NULL_SPACE_STIFFNESS) * d->qvel[at->qvel[j]];
    for (int i = 0; i < JOINTS; i++) posture[i] += mass[i * JOINTS + j] * pull;
  }

  /* Inverse inertia seen at the hand, J M^-1 J^T, whole and its uncoupled halves. */
  double mobility[TASK][JOINTS], whole[TASK * TASK], half[2][9], force[TASK], shadow[TASK];
  for (int k = 0; k < TASK; k++) {
    memcpy(mobility[k], jacobian[k], sizeof mobility[k]);
    solve(lower, mobility[k], JOINTS);
  }
  for (int a = 0; a < TASK; a++)
    for (int b = 0; b < TASK; b++) whole[a * TASK + b] = mju_dot(jacobian[a], mobility[b], JOINTS);
  desired_acceleration(d, at, c, state, jacobian, force);
  for (int h = 0; h < 2; h++) {
    for (int a = 0; a < 3; a++)
      for (int b = 0; b < 3; b++) half[h][a * 3 + b] = whole[(3 * h + a) * TASK + 3 * h + b];
    factor(half[h], 3);
    solve(half[h], force + 3 * h, 3);
  }
  for (int a = 0; a < TASK; a++) shadow[a] = mju_dot(mobility[a], posture, JOINTS);
  factor(whole, TASK);
  solve(whole, shadow, TASK);

  for (int i = 0; i < JOINTS; i++) {
    double torque = d->qfrc_bias[at->qvel[i]] + posture[i];
    for (int a = 0; a < TASK; a++) torque += jacobian[a][i] * (force[a] - shadow[a]);
    d->ctrl[at->torques[i]] = clip(torque, c->torque_low[i], c->torque_high[i]);
  }
}

static void control_gripper(mjData *d, const Indices *at, const Constants *c, Controller *state, double command) {
  double direction = (command > 0) - (command < 0);
  for (int f = 0; f < FINGERS; f++) {
    state->gripper[f] = clip(state->gripper[f] + FINGER_DIRECTION[f] * FINGER_RATE * direction, -1, 1);
    d->ctrl[at->fingers[f]] = c->finger_bias[f] + c->finger_weight[f] * state->gripper[f];
  }
}

/* Executes one action. `sensed` receives the joint positions before the last substep. */
void tgrpo_control_step(const mjModel *m, mjData *d, const Indices *at, const Constants *c, Controller *state,
                        double *sensed, double *work, const double *action) {
  for (int substep = 0; substep < at->substeps; substep++) {
    mj_step1(m, d);
    if (substep == 0) set_goal(d, at, c, state, action);
    control_arm(m, d, at, c, state, work);
    control_gripper(d, at, c, state, action[TASK]);
    if (substep == at->substeps - 1) memcpy(sensed, d->qpos, m->nq * sizeof(double));
    mj_step2(m, d);
  }
}
